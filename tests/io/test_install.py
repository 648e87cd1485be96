"""Universal models get into the cache verified, converted and checked, from a file, a wheel or a server; never half."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from file_server import serve_index, serving, write_wheel

from ase_equivariant import EquivariantCalculator, load_model
from ase_equivariant.io import catalog, download, registry
from ase_equivariant.io.cache import cache_folder, cached_model
from ase_equivariant.io.catalog import CATALOG, KnownModel, WebFile, WheelMember
from ase_equivariant.io.download import DownloadError
from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.install import install, installed_files, intact_files, save_exactly
from ase_equivariant.io.model_file import ModelCard, ModelFileError
from ase_equivariant.io.registry import ModelNotFoundError, resolve

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASE_EQUIVARIANT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    names = ("species", "modal")
    write_wheel(path, {f"tiny/{name}.pth": (GOLDEN / f"sevennet_tiny_{name}.pth").read_bytes() for name in names})
    return path


def in_wheel(wheel, name, **more):
    member = GOLDEN / f"sevennet_tiny_{name}.pth"
    source = WheelMember("tiny", "1.0", sha256(wheel), wheel.stat().st_size, f"tiny/{name}.pth", sha256(member))
    return KnownModel(f"tiny-{name}", source, ModelCard(name=f"tiny-{name}", level_of_theory="PBE"), 4, **more)


@pytest.fixture
def nequix():
    return nequix_at("http://127.0.0.1:9")


@pytest.fixture
def server():
    with serving((GOLDEN / "nequix_tiny_norm.nqx").read_bytes()) as made:
        yield made


def nequix_at(address):
    file = GOLDEN / "nequix_tiny_norm.nqx"
    source = WebFile(f"{address}/nequix_tiny_norm.nqx", file.stat().st_size, sha256(file))
    return KnownModel("tiny-nequix", source, ModelCard(name="tiny-nequix", level_of_theory="PBE"), 4)


def test_from_a_file(nequix, cache):
    (file,) = install(nequix, GOLDEN / "nequix_tiny_norm.nqx")
    assert file == cached_model("tiny-nequix")
    loaded = load_model(file)
    assert loaded.card.level_of_theory == "PBE"
    assert loaded.card.training["source_sha256"] == nequix.source.sha256
    assert installed_files(nequix) == [file]
    assert install(nequix) == [file]  # nothing is fetched: the address leads nowhere
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["models-1"]


def test_from_a_wheel_or_the_member_itself(wheel):
    model = in_wheel(wheel, "species")
    for given in (wheel, GOLDEN / "sevennet_tiny_species.pth"):
        assert install(model, given) == [cached_model("tiny-species")]


def test_each_level_of_theory_is_a_file(wheel, monkeypatch):
    model = in_wheel(wheel, "modal", modalities={"pbe": "PBE", "scan": "SCAN"})
    files = install(model, wheel)
    assert [load_model(file).card.level_of_theory for file in files] == ["PBE", "SCAN"]
    monkeypatch.setitem(CATALOG, model.name, model)
    pbe, scan = (EquivariantCalculator(model.name, modal=modal) for modal in ("pbe", "scan"))
    assert pbe.todict()["modal"] == "pbe"
    assert pbe.model_sha256 != scan.model_sha256
    with pytest.raises(ValueError, match=r"needs a level of theory: choose modal='pbe' or modal='scan'"):
        EquivariantCalculator(model.name)
    with pytest.raises(ValueError, match=r"knows no modal='PBE': choose modal='pbe'.*or the name tiny-modal.pbe"):
        EquivariantCalculator(model.name, modal="PBE")
    assert EquivariantCalculator("tiny-modal.scan").model_sha256 == scan.model_sha256
    with pytest.raises(ValueError, match=r"tiny-modal\.scan names a level of theory: leave out modal='pbe'"):
        EquivariantCalculator("tiny-modal.scan", modal="pbe")
    with pytest.raises(ModelNotFoundError, match=r"did you mean 'tiny-modal\.scan'"):
        EquivariantCalculator("tiny-modal.scam")


def test_modal_of_a_model_that_has_none_is_refused(small_potential):
    for model in ("ethanol", "sevennet-0", small_potential):
        with pytest.raises(ValueError, match=r"one level of theory: leave out modal='PBE'"):
            EquivariantCalculator(model, modal="PBE")


def test_other_files_are_refused_and_leave_nothing(nequix, wheel, cache, tmp_path):
    with pytest.raises(DownloadError, match=r"is not the published nequix_tiny_norm\.nqx of tiny-nequix"):
        install(nequix, GOLDEN / "nequix_tiny_l3.nqx")
    with pytest.raises(FileNotFoundError, match="no file at"):
        install(nequix, tmp_path / "nothing.nqx")
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("tiny/species.pth", b"something else")
    with pytest.raises(DownloadError, match="is not the published file"):
        install(in_wheel(wheel, "species"), other)
    with pytest.raises(DownloadError, match=r"does not hold tiny/modal\.pth"):
        install(in_wheel(wheel, "modal", modalities={"pbe": "PBE"}), other)
    assert not list(cache.rglob("*.safetensors"))
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_an_unreachable_host_says_what_to_do(nequix):
    with pytest.raises(
        DownloadError,
        match=r"127\.0\.0\.1 cannot be reached \(Connection refused\); .* models get tiny-nequix --from FILE",
    ):
        install(nequix)


def test_a_conversion_that_fails_leaves_nothing(wheel, cache):
    model = in_wheel(wheel, "modal", modalities={"lda": "LDA"})
    with pytest.raises(ForeignModelError, match="knows no modal='lda'"):
        install(model, wheel)
    assert not list(cache.rglob("*.safetensors*"))


def test_from_a_server(server, cache):
    model = nequix_at(server.url)
    assert install(model) == install(model) == [cached_model("tiny-nequix")]
    assert len(server.asked) == 1
    (published,) = (cache / "downloads").iterdir()
    cached_model("tiny-nequix").unlink()
    assert install(model) == [cached_model("tiny-nequix")]
    assert len(server.asked) == 1  # the published file is still there
    cached_model("tiny-nequix").unlink()
    published.write_bytes(published.read_bytes()[:-100])
    assert install(model) == [cached_model("tiny-nequix")]
    assert len(server.asked) == 2  # … and is taken only if it is whole


def test_from_a_package_index(server, wheel, monkeypatch):
    for name, value in serve_index(server, wheel).items():
        monkeypatch.setenv(name, value)
    for name, modalities in (("species", {}), ("modal", {"pbe": "PBE"})):
        install(in_wheel(wheel, name, modalities=modalities))
    assert [path for path, _ in server.asked].count(f"/files/{wheel.name}") == 1  # one wheel holds both
    assert load_model(cached_model("tiny-modal", "pbe")).card.level_of_theory == "PBE"


def test_a_damaged_model_is_made_anew(server):
    model = nequix_at(server.url)
    (file,) = install(model)
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        assert installed_files(model) == [file]
        assert intact_files(model) == []
        assert install(model) == intact_files(model) == [file]


def test_a_file_that_fails_its_check_replaces_nothing(small_potential, tmp_path, monkeypatch):
    target = tmp_path / "mine.safetensors"
    save_exactly(target, small_potential, ModelCard(name="good"))
    whole = target.read_bytes()

    def refuse(path):
        raise ModelFileError("not what it was")

    monkeypatch.setattr("ase_equivariant.io.install.load_model", refuse)
    with pytest.raises(ModelFileError, match="not what it was"):
        save_exactly(target, small_potential, ModelCard(name="bad"))
    assert target.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_a_cache_that_cannot_be_written_is_named(nequix, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASE_EQUIVARIANT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"the cache .*file cannot be written .*: set ASE_EQUIVARIANT_CACHE to"):
        install(nequix)


PROCESS = """
import sys
from ase_equivariant.io.catalog import KnownModel, WebFile
from ase_equivariant.io.install import install
from ase_equivariant.io.model_file import ModelCard
url, size, sha256 = sys.argv[1:]
print(install(KnownModel("tiny", WebFile(url, int(size), sha256), ModelCard(name="tiny")))[0])
"""


def start_installing(server):
    source = nequix_at(server.url).source
    command = [sys.executable, "-c", PROCESS, source.url, str(source.size), source.sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_processes_that_install_at_once_fetch_once_and_do_no_harm(server):
    server.pause = 0.3
    processes = [start_installing(server) for _ in range(3)]
    outputs = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs == {str(cached_model("tiny"))}
    assert len(server.asked) == 1
    load_model(cached_model("tiny"))


def test_a_process_that_is_killed_leaves_what_came_and_no_lock(server, cache):
    server.content = server.content + bytes(200_000)  # what follows the model is left alone
    source = WebFile(f"{server.url}/x", len(server.content), hashlib.sha256(server.content).hexdigest())
    server.pause = 0.2
    command = [sys.executable, "-c", PROCESS, source.url, str(source.size), source.sha256]
    process = subprocess.Popen(command)
    end = time.monotonic() + 120
    while not (parts := [p for p in cache.glob("downloads/*.part") if p.stat().st_size > 0]):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait()
    came = parts[0].stat().st_size
    assert 0 < came < source.size
    server.pause = 0.0
    (file,) = install(KnownModel("tiny", source, ModelCard(name="tiny")))
    load_model(file)
    assert server.asked == [("/x", None), ("/x", f"bytes={came}-")]
    assert [path.read_bytes() for path in cache.glob("downloads/*")] == [server.content]


def test_names_lead_to_the_cache(nequix, monkeypatch):
    monkeypatch.setitem(CATALOG, "tiny-nequix", nequix)
    install(nequix, GOLDEN / "nequix_tiny_norm.nqx")
    assert resolve("tiny-nequix") == cached_model("tiny-nequix")
    with pytest.raises(ModelNotFoundError, match=r"did you mean 'sevennet-0'\?.*universal models: .*nequix-mp-1"):
        resolve("sevenet-0")
    with pytest.raises(
        ValueError, match=r"is a model of another package \(nequix\): run ase-equivariant models convert"
    ):
        resolve(GOLDEN / "nequix_tiny_norm.nqx")


def test_a_model_is_fetched_when_first_asked_for(nequix, monkeypatch, capsys):
    monkeypatch.setitem(CATALOG, "tiny-nequix", nequix)
    monkeypatch.setattr(registry, "install", lambda model: install(model, GOLDEN / "nequix_tiny_norm.nqx"))
    EquivariantCalculator("tiny-nequix")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("fetching tiny-nequix")
    EquivariantCalculator("tiny-nequix")
    assert capsys.readouterr().err == ""


def test_the_catalog_is_complete():
    names = "sevennet-0 sevennet-l3i5 sevennet-mf-0 nequix-mp-1 nequix-omat-1 nequix-oam-1 nequix-oam-1-pft".split()  # noqa: SIM905
    assert set(names) <= set(CATALOG)
    for model in CATALOG.values():
        assert len(model.source.sha256) == 64
        assert model.card.license == "MIT"
        assert model.name not in registry.shipped_models()
    assert catalog.CATALOG["sevennet-mf-0"].modalities.keys() == {"PBE", "R2SCAN"}
    assert cache_folder().name == "cache"
