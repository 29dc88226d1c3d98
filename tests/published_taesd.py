"""TAESD's encoder and decoder in torch, layer by layer as published, and folders of their weights."""

from conftest import Lazy

torch, safetensors = Lazy("torch"), Lazy("safetensors.torch")


def twin(latents=4, pooled=False, channels=3):
    """{"encoder": ..., "decoder": ...}, of images in [0, 1]."""
    nn = torch.nn

    def convolution(inputs, outputs, **options):
        return nn.Conv2d(inputs, outputs, 3, padding=1, **options)

    class Clamp(nn.Module):
        def forward(self, x):
            return 3 * torch.tanh(x / 3)

    class Block(nn.Module):
        def __init__(self, pooled=False):
            super().__init__()
            self.conv = nn.Sequential(
                *(convolution(64, 64), nn.ReLU(), convolution(64, 64), nn.ReLU(), convolution(64, 64))
            )
            if pooled:
                widen, narrow = nn.Conv2d(64, 256, 1, bias=False), nn.Conv2d(256, 64, 1, bias=False)
                self.pool = nn.Sequential(widen, nn.GroupNorm(4, 256), nn.ReLU(), narrow)

        def forward(self, x):
            if hasattr(self, "pool"):
                x = x + self.pool(x)
            return torch.relu(self.conv(x) + x)

    def down(pooled=False):
        return (convolution(64, 64, stride=2, bias=False), *(Block(pooled) for _ in range(3)))

    def up(blocks, pooled=False):
        blocks = (Block(pooled) for _ in range(blocks))
        return (*blocks, nn.Upsample(scale_factor=2), convolution(64, 64, bias=False))

    first, last = convolution(channels, 64), convolution(64, latents)
    encoder = nn.Sequential(first, Block(), *down(), *down(), *down(pooled), last)
    first, last = convolution(latents, 64), convolution(64, channels)
    decoder = nn.Sequential(Clamp(), first, nn.ReLU(), *up(3, pooled), *up(3), *up(3), Block(), last)
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def write(folder, **options):
    """The twin, whose random weights are stored in the folder."""
    folder.mkdir()
    torch.manual_seed(0)
    made = twin(**options)
    safetensors.save_file(made.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return made
