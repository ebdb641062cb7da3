"""Start two processes and let each train one step; print the seconds until both have.

The first line is of a program's first processes, the second of others after these were stopped.
"""

import time

import torch

from segcal_lite.runs.processes import spawned_processes, stop_processes
from segcal_lite.training.loop import adam
from segcal_lite.unet import UNet


def first_step():
    """Train a small U-Net by one step; return the time, and leave the next job to the other."""
    model = UNet(n_channels=1, n_outputs=2)
    optimiser = adam(model, torch.device("cpu"))
    model(torch.ones(4, 1, 64, 64)).square().mean().backward()
    optimiser.step()
    done = time.monotonic()
    time.sleep(1)
    return done


def main():
    """Time both."""
    for _ in range(2):
        begun = time.monotonic()
        with spawned_processes(2) as executor:
            jobs = [executor.submit(first_step) for _ in range(2)]
            print(max(job.result() for job in jobs) - begun, flush=True)
        stop_processes()


if __name__ == "__main__":
    main()
