"""Where the toon codec starts and how its latents are scaled, in closed form. Knows linear algebra; trains nothing.

An `AutoencoderTiny` encoder without blocks is linear. Three strided convolutions that each read 2x2 cells and keep the
strongest directions are a Karhunen-Loeve transform of 8x8 pixels in three levels; 16 of its 192 directions keep most of a
flat-coloured picture.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional as F

SPECTRUM = 0.5  # latent variances are the picture's own to this power: 1 is the picture's energy, 0 is white


@torch.no_grad()
def start_at_principal_directions(net: AutoencoderTiny, pixels: Tensor) -> None:
    """Set the encoder to the transform of `pixels` `[N, 3, H, W]` in [0, 1]. Needs at least 16 channels and no encoder blocks."""
    first, *strided, last = net.encoder.layers
    for conv in (first, *strided, last):
        conv.weight.zero_()
    for colour in range(3):
        first.weight[colour, colour, 1, 1] = 1
    first.bias.zero_()
    first.bias[:3] = -pixels.mean((0, 2, 3))
    signal, channels = first(pixels), 3
    for conv in strided:
        directions = _principal(F.pixel_unshuffle(signal[:, :channels], 2), conv.out_channels)
        conv.weight[: len(directions), :channels, 1:, 1:] = directions.view(-1, channels, 2, 2)
        signal, channels = conv(signal), len(directions)
    last.bias.zero_()
    for channel in range(last.out_channels):
        last.weight[channel, channel, 1, 1] = 1 / signal[:, channel].std()


@torch.no_grad()
def start_at_mean_colours(net: AutoencoderTiny, pixels: Tensor, draw: torch.Generator) -> None:
    """Set the decoder to paint every cell in its mean colour, with small random detail to learn from. The encoder comes first.

    The first layer splits each latent into z and -z; because silu(z) - silu(-z) = z nothing is lost in its activation. Layers
    between carry channels through, the last one reads the mean colour by least squares.
    """
    for layer in net.decoder.layers.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5, generator=draw)
            if layer.bias is not None:
                layer.bias.zero_()
    first, *between, last = [layer for layer in net.decoder.layers if isinstance(layer, nn.Conv2d)]
    count = first.in_channels
    first.weight.zero_()
    for channel in range(count):
        first.weight[channel, channel, 1, 1], first.weight[count + channel, channel, 1, 1] = 1, -1
    for layer in between:
        layer.weight.mul_(0.2)
        layer.weight[:, :, 1, 1] += torch.eye(layer.out_channels)
    for block in net.decoder.layers.children():
        if not isinstance(block, nn.Conv2d) and any(True for _ in block.parameters()):
            block.conv[-1].weight.mul_(0.1)
    latents = net.encoder(2 * pixels - 1).transpose(0, 1).flatten(1).double()
    colours = F.avg_pool2d(pixels, 8).transpose(0, 1).flatten(1).double()
    mean = colours.mean(1)
    read = torch.linalg.solve(latents @ latents.T, latents @ (colours - mean[:, None]).T).T.float()
    last.weight.mul_(0.03)
    last.weight[:, :count, 1, 1] += read
    last.weight[:, count : 2 * count, 1, 1] -= read
    last.bias = nn.Parameter(mean.float())


@torch.no_grad()
def settle_latents(net: AutoencoderTiny, pixels: Tensor) -> None:
    """Give latents zero mean, one variance for all channels (1) and mild tails, by a change of basis in both halves.

    Directions of the latents are rescaled to `SPECTRUM` and then mixed by a Hadamard rotation: sums of many directions are
    closer to normal, so few values reach the decoder's clamp at 3. The decoder's first layer takes the inverse; what the clamp
    then does differently is left to further training.
    """
    last, first = net.encoder.layers[-1], net.decoder.layers[0]
    latents = net.encoder(2 * pixels - 1).transpose(0, 1).flatten(1).double()
    mean = latents.mean(1)
    variances, directions = torch.linalg.eigh(torch.cov(latents))
    directions = directions * _signs(directions)
    goal = variances**SPECTRUM
    goal = goal / goal.mean()
    change = _hadamard(len(mean)) @ torch.diag((goal / variances).sqrt()) @ directions.T
    back = torch.linalg.inv(change)
    last.weight.copy_(_mix(change, last.weight))
    last.bias.copy_((change @ (last.bias.double() - mean)).float())
    # The first layer saw z, now it sees z' with z = back z' + mean; its zero padding has to stand for the mean as well.
    first.bias.add_((first.weight.double().sum((2, 3)) @ mean).float())
    first.weight.copy_(_mix(back.T, first.weight.transpose(0, 1)).transpose(0, 1))


def _principal(signal: Tensor, most: int) -> Tensor:
    """`[K, C]`, the strongest directions of `[N, C, h, w]`, strongest first."""
    samples = signal.transpose(0, 1).flatten(1).double()
    directions = torch.linalg.eigh(samples @ samples.T / samples.shape[1])[1].flip(1)[:, :most]
    return (directions * _signs(directions)).T.float()


def _signs(directions: Tensor) -> Tensor:
    """One sign per column that makes its largest entry positive: eigenvectors are only known up to sign."""
    return directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()


def _hadamard(size: int) -> Tensor:
    """Orthogonal matrix of equal absolute entries, `size` a power of two (Sylvester's construction)."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / size**0.5


def _mix(change: Tensor, weight: Tensor) -> Tensor:
    """`change @ weight` over the first axis of a convolution's weight."""
    return torch.einsum("oi,i...->o...", change, weight.double()).float()
