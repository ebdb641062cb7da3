"""An epoch on CUDA, recorded once and replayed: one launch in place of thousands.

A small U-Net's step is some hundred kernels of a few microseconds; handing them in one by one takes
longer than they run. A CUDA graph keeps their order and their addresses: what changes from epoch to
epoch (the order of the slices, the learning rate) and from member to member (the weights, Adam's
means) is copied to where it reads them. Each recording has a stream of its own, so that members in
several lanes run side by side.
"""

import torch


def can_be_recorded(settings, device):
    """Whether an epoch is the same kernels each time: on CUDA, without draws of the processor."""
    return device.type == "cuda" and not settings.augment


def compiled_for(batch_size, loss_of):
    """Compile the loss of whole mini-batches; the last of an epoch is smaller, and stays as it is.

    Compiling takes the better part of a minute, so that it pays for many members only.
    """
    compiled = torch.compile(loss_of, dynamic=False)

    def chosen(images, labels, class_weights):
        return (compiled if len(images) == batch_size else loss_of)(images, labels, class_weights)

    return chosen


class RecordedEpoch:
    """The kernels of one epoch, to be replayed with another order of the samples.

    Parameters
    ----------
    epoch : callable
        Takes the order, an integer tensor (N,), and returns a callable without arguments that
        returns tensors. It is run once to warm up, which changes weights and optimiser.
    n_samples : int
        N.
    device : torch.device
        Of CUDA.
    """

    def __init__(self, epoch, n_samples, device):
        self.order = torch.arange(n_samples, device=device)
        self.stream, self.graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(device))
        cudnn = torch.backends.cudnn
        fastest = {"enabled": True, "benchmark": True, "allow_tf32": cudnn.allow_tf32}
        with cudnn.flags(**fastest):  # it tries its kinds of convolution and takes the fastest
            with torch.cuda.stream(self.stream):
                epoch(self.order)
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.outcome = epoch(self.order)

    def __call__(self, order):
        """Replay with the samples in `order`; return what waits for the outcome and returns it."""
        self.order.copy_(order)
        self.stream.wait_stream(torch.cuda.current_stream(self.order.device))
        with torch.cuda.stream(self.stream):
            self.graph.replay()
        return self._wait

    def _wait(self):
        """Let the current stream wait for this one; return the tensors of the outcome."""
        torch.cuda.current_stream(self.order.device).wait_stream(self.stream)
        return self.outcome()
