"""The papers' two networks: the U-Net of A, in 2D or 3D, and the residual 3D U-Net of B.

Both halve the resolution by max pooling from block to block of an encoder, double it from block to
block of a decoder, which also sees what the encoder had at its resolution, and end in a 1 x 1
output of logits. They differ in their blocks and in how they double:

- `UNet`: two 3 x 3 convolutions, each with batch normalisation and ReLU; nearest up-sampling.
- `ResidualUNet`: the same with instance normalisation and a short skip round both; transposed
  convolutions of 2 x 2 x 2.
"""

from functools import reduce
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ._checks import check_choice, check_count, wrong_input

N_DROPOUT_BLOCKS = 3
CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALISATION = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
CONVOLVE_TRANSPOSED = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
WIDENING = (  # from a kernel of 3, a row each, to the turned one of 4 of a transposed convolution
    (0.0, 0.0, 1.0, 1.0),
    (0.0, 1.0, 1.0, 0.0),
    (1.0, 1.0, 0.0, 0.0),
)


class _EncoderDecoder(nn.Module):
    """What both networks are: blocks on the way down and on the way up, skips between them.

    `encoder` is in order of use, so outermost first; `upsample` and `decoder` innermost first.
    `rates` are of the dropout behind each block of the encoder and the decoder's block above it.
    What `decode` makes of the features below and of a skip is the networks' own.
    """

    def __init__(self, n_dims, encoder, upsample, decoder, output, rates):
        super().__init__()
        self.n_dims = n_dims
        self.encoder, self.upsample = nn.ModuleList(encoder), nn.ModuleList(upsample)
        self.decoder, self.output = nn.ModuleList(decoder), output
        self.dropout = nn.ModuleList(nn.Dropout(p) if p else nn.Identity() for p in rates)
        self.pool = POOLING[n_dims](2)
        for module in self.modules():  # from He's Gaussian, in this order
            if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def last_features(self):
        """The decoder's outermost block, whose output feeds the 1 x 1 output."""
        return self.decoder[-1]

    def check_sides(self, sides):
        """Raise unless every side can be halved from block to block of the encoder."""
        multiple = 2 ** (len(self.encoder) - 1)
        if any(side % multiple for side in sides):
            raise wrong_input("image", f"sides {sides}", f"multiples of {multiple}")

    def forward(self, image, before_dropout=()):
        """Map (B, C, *S) images to (B, n_outputs, *S) logits.

        `before_dropout` is what `features_before_dropout` returned, where it is at hand.
        """
        self.check_sides(tuple(image.shape[2:]))
        skips = []
        for number, (block, dropout) in enumerate(zip(self.encoder, self.dropout, strict=True)):
            if number < len(before_dropout):
                features = before_dropout[number]
            else:
                features = block(self.pool(skips[-1]) if skips else image)
            skips.append(dropout(features))
        features = skips.pop()
        for number, dropout in enumerate(reversed(self.dropout[1:])):
            features = dropout(self.decode(number, features, skips.pop()))
        return self.output(features)

    def features_before_dropout(self, image):
        """Return what the encoder's blocks put out up to the first dropout: the same each time."""
        self.check_sides(tuple(image.shape[2:]))
        found = []
        for block in self.encoder[: self.n_before_dropout]:
            found.append(block(self.pool(found[-1]) if found else image))
        return found


class UNet(_EncoderDecoder):
    """U-Net with the widths of paper A (section VI.A).

    Parameters
    ----------
    n_channels : int
        Channels of the image, C.
    n_outputs : int
        Output maps: K for a softmax, one a segment for sigmoids.
    widths : tuple of int
        Channels of the encoder's blocks, outermost first.
    dropout : float
        Probability in the three inner-most blocks of encoder and of decoder, behind each block as
        in Bayesian SegNet; 0 builds none.
    n_dims : {2, 3}

    Notes
    -----
    Convolutions start from He's Gaussian. ``last_features`` is the module whose output has full
    resolution and ``widths[0]`` channels: the map in front of the 1 x 1 output.

    Raises
    ------
    ValueError
        If an image's sides are no multiples of ``2 ** (len(widths) - 1)``.

    Examples
    --------
    >>> model = UNet(n_channels=1, n_outputs=2)
    >>> model(torch.zeros(4, 1, 32, 48)).shape
    torch.Size([4, 2, 32, 48])
    """

    def __init__(self, n_channels, n_outputs, widths=(8, 16, 32, 64, 128), dropout=0.0, n_dims=2):
        check_choice("n_dims", n_dims, (2, 3))
        n_without = len(widths) - N_DROPOUT_BLOCKS
        super().__init__(
            n_dims,
            encoder=[DoubleConvolution(*pair, n_dims) for pair in pairwise([n_channels, *widths])],
            upsample=[],  # it is part of the decoder's blocks
            decoder=[DecoderBlock(*pair, n_dims) for pair in pairwise(reversed(widths))],
            output=CONVOLUTION[n_dims](widths[0], n_outputs, kernel_size=1),
            rates=[dropout if i >= n_without else 0.0 for i in range(len(widths))],
        )
        self.n_before_dropout = max(0, n_without) + 1

    def decode(self, number, below, skip):
        """Map (B, C, *S) features and a skip of (B, C', *2S) to (B, C', *2S)."""
        return self.decoder[number](below, skip)


class DoubleConvolution(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU.

    The convolutions carry no bias: batch normalisation would subtract it again.

    Parameters
    ----------
    n_in, n_out : int
        Channels before and after.
    n_dims : {2, 3}

    Examples
    --------
    >>> DoubleConvolution(1, 8)(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(self, n_in, n_out, n_dims=2):
        layers = []
        for n_before in (n_in, n_out):
            layers += [
                CONVOLUTION[n_dims](n_before, n_out, kernel_size=3, padding=1, bias=False),
                NORMALISATION[n_dims](n_out),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class DecoderBlock(DoubleConvolution):
    """A `DoubleConvolution` of what comes from below, at twice its resolution, and of a skip.

    The textbook repeats each value from below along every axis, lays the result beside the skip and
    convolves the two together. Here neither copy is made. A convolution is a sum over channels, so
    each of the two meets its own part of the kernel. And what a kernel of 3 gives to two equal
    neighbours, one of 4 gives to the single value that they repeat: the sum of the kernel and its
    copy moved by one. From one value to the next it moves by two places, so this is a transposed
    convolution of 4 x 4 with a stride of 2: 4 products an output, not 9 (3D: 8, not 27).

    Parameters
    ----------
    n_below, n_skip : int
        Channels from below and of the skip; as many come out as the skip has.
    n_dims : {2, 3}

    Examples
    --------
    >>> below, skip = torch.zeros(1, 16, 8, 8), torch.zeros(1, 8, 16, 16)
    >>> DecoderBlock(16, 8)(below, skip).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(self, n_below, n_skip, n_dims=2):
        super().__init__(n_below + n_skip, n_skip, n_dims)
        widening = reduce(torch.kron, n_dims * [torch.tensor(WIDENING)])
        self.register_buffer("widening", widening, persistent=False)

    def forward(self, below, skip):
        """Map (B, n_below, *S) and (B, n_skip, *2S) to (B, n_skip, *2S)."""
        convolution, *others = self
        n_dims = skip.ndim - 2
        kernel, of_skip = convolution.weight.split([below.shape[1], skip.shape[1]], dim=1)
        wide = (kernel.flatten(2) @ self.widening).unflatten(2, n_dims * (4,)).transpose(0, 1)
        features = CONVOLVE_TRANSPOSED[n_dims](below, wide, stride=2, padding=1)
        features += CONVOLVE[n_dims](skip, of_skip, padding=1)
        for layer in others:
            features = layer(features)
        return features


class ResidualUNet(_EncoderDecoder):
    """Residual 3D U-Net of paper B.

    Parameters
    ----------
    n_channels : int
        Channels of the image, C.
    n_outputs : int
        Output maps: K for a softmax, one a segment for sigmoids.
    n_features : int
        Channels of the first stage (B: 14, as many as its GPU held); each stage doubles them.
    n_stages : int
        At least 4. With 5 (ours) the receptive field covers a block of 96 voxels.
    dropout : float
        Probability behind every convolution of 3 x 3 x 3 (B: 0.1 in a model of its own).

    Notes
    -----
    Max pooling on the way down, transposed convolutions of 2 x 2 x 2 on the way up, as in the 3D
    U-Net. B prints no normalisation. Ours is by instance: each block by its own mean and variance,
    in training and in use. Batch normalisation does not suit joint training, since a mini-batch
    mixes CT with MR and its running statistics fit neither. Convolutions start from He's Gaussian.
    ``last_features`` is the module whose output has full resolution and `n_features` channels: the
    map that B takes the spectral signature of.

    Raises
    ------
    ValueError
        If there are fewer than 4 stages, or an image's sides are no multiples of
        ``2 ** (n_stages - 1)``, or all of them are just that.

    Examples
    --------
    >>> model = ResidualUNet(n_channels=1, n_outputs=1, n_features=2)
    >>> model(torch.zeros(1, 1, 16, 16, 32)).shape
    torch.Size([1, 1, 16, 16, 32])
    """

    def __init__(self, n_channels, n_outputs, n_features=14, n_stages=5, dropout=0.0):
        widths = [n_features * 2**stage for stage in range(check_count("n_stages", n_stages, 4))]
        upwards = list(pairwise(reversed(widths)))
        super().__init__(
            n_dims=3,
            encoder=[ResidualBlock(*pair, dropout) for pair in pairwise([n_channels, *widths])],
            upsample=[nn.ConvTranspose3d(*pair, kernel_size=2, stride=2) for pair in upwards],
            decoder=[ResidualBlock(2 * n_out, n_out, dropout) for _, n_out in upwards],
            output=nn.Conv3d(n_features, n_outputs, kernel_size=1),
            rates=[0.0] * n_stages,  # it stands within the blocks
        )
        self.n_before_dropout = 0

    def decode(self, number, below, skip):
        """Map (B, 2C, *S) features and a skip of (B, C, *2S) to (B, C, *2S)."""
        return self.decoder[number](torch.cat([self.upsample[number](below), skip], dim=1))

    def check_sides(self, sides):
        """Raise also where all sides end as one voxel: it has no variance to be normalised by."""
        super().check_sides(sides)
        least = 2 ** len(self.encoder)
        if max(sides) < least:
            raise wrong_input("image", f"sides {sides}", f"one of at least {least}")


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions with instance normalisation, and a short skip round them."""

    def __init__(self, n_in, n_out, dropout=0.0):
        super().__init__()
        layers = []
        for n_before in (n_in, n_out):
            layers += [
                nn.Conv3d(n_before, n_out, kernel_size=3, padding=1, bias=False),
                *([nn.Dropout(dropout)] if dropout else []),
                nn.InstanceNorm3d(n_out, affine=True),
                nn.ReLU(inplace=True),
            ]
        self.convolutions = nn.Sequential(*layers[:-1])  # the last ReLU acts behind the sum
        self.skip = nn.Conv3d(n_in, n_out, kernel_size=1) if n_in != n_out else nn.Identity()
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features):
        """Map (B, n_in, *S) to (B, n_out, *S)."""
        return self.activation(self.convolutions(features) + self.skip(features))
