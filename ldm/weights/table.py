"""The networks of others that are of use here: their files, checksums, terms and roles."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher offers it."""

    path: str  # below weights_dir, under its public name
    url: str
    num_bytes: int | None  # None for a small text whose size is not known
    sha256: str | None  # None for a text of settings: a record says what these are


@dataclass(frozen=True)
class Pretrained:
    """A network that others trained: its files, what it is for, and under which terms."""

    name: str  # what configs, commands and `find` call it
    files: tuple[PublishedFile, ...]  # the first holds the weights, the others its settings
    role: str
    licence: str
    trained_on: str
    source: str  # the public project that publishes it, in words

    @property
    def weights(self) -> PublishedFile:
        """The file that holds the tensors."""
        return self.files[0]

    @property
    def size(self) -> str:
        """What there is to download, in words."""
        return f"{sum(file.num_bytes or 0 for file in self.files) / 1e6:,.1f} MB"

    @property
    def terms(self) -> str:
        """Licence and training data, in words."""
        return f"{self.licence}; trained on {self.trained_on}"


def _of_hub(
    repository: str, revision: str, *files: tuple[str, int | None, str | None]
) -> tuple[PublishedFile, ...]:
    """Files of a Hugging Face repository, in a folder of the repository's name."""
    folder = repository.partition("/")[2]
    url = f"https://huggingface.co/{repository}/resolve/{revision}"
    return tuple(
        PublishedFile(path=f"{folder}/{name}", url=f"{url}/{name}", num_bytes=size, sha256=sha256)
        for name, size, sha256 in files
    )


TABLE: dict[str, Pretrained] = {
    network.name: network
    for network in (
        Pretrained(
            name="vgg16",
            files=(
                PublishedFile(
                    path="vgg16-397923af.pth",
                    url="https://download.pytorch.org/models/vgg16-397923af.pth",
                    num_bytes=553_433_881,
                    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                ),
            ),
            role="LPIPS: perceptual=lpips in training, metric lpips",
            licence="BSD-3-Clause (code)",
            trained_on="ImageNet-1k, whose images are for research only",
            source="torchvision, VGG16 IMAGENET1K_V1",
        ),
        Pretrained(
            name="inception_fid",
            files=(
                PublishedFile(
                    path="weights-inception-2015-12-05-6726825d.pth",
                    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                    "weights-inception-2015-12-05-6726825d.pth",
                    num_bytes=95_628_359,
                    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                ),
            ),
            role="FID, KID, precision and recall, Inception score",
            licence="Apache-2.0",
            trained_on="ImageNet-1k, whose images are for research only",
            source="torch-fidelity, release v0.2.0",
        ),
        Pretrained(
            name="clip_vit_l14",
            files=_of_hub(
                "openai/clip-vit-large-patch14",
                "32bd64288804d66eefd0ccbe215aa642df71cc41",
                (
                    "model.safetensors",
                    1_710_540_580,
                    "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
                ),
                ("config.json", 4_519, None),
                ("preprocessor_config.json", 316, None),
            ),
            role="CLIP score",
            licence="MIT (code); by its card for research, not for deployment",
            trained_on="400 million pairs of picture and text from the web, not published",
            source="OpenAI, CLIP ViT-L/14, on the Hugging Face hub",
        ),
        Pretrained(
            name="clip_vit_h14",
            files=_of_hub(
                "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
                "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
                (
                    "open_clip_model.safetensors",
                    3_944_517_836,
                    "0084e75319a50ad85ef45377bad5bc38f2f58824459eb690048d51c9f8863be5",
                ),
                ("open_clip_config.json", None, None),
            ),
            role="CLIP score",
            licence="MIT",
            trained_on="LAION-2B, 2 billion pairs of picture and English text from the web",
            source="LAION, OpenCLIP ViT-H/14, on the Hugging Face hub",
        ),
        Pretrained(
            name="dinov2_vitl14",
            files=(
                PublishedFile(
                    path="dinov2_vitl14_pretrain.pth",
                    url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/"
                    "dinov2_vitl14_pretrain.pth",
                    num_bytes=1_217_586_395,
                    sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
                ),
            ),
            role="Frechet distance in DINOv2's features (fd_dinov2)",
            licence="Apache-2.0",
            trained_on="LVD-142M, 142 million pictures from the web, not published",
            source="Meta AI, DINOv2 ViT-L/14 without registers",
        ),
    )
}
