from typing import Any, ClassVar

import pytest

from tokenmill import devices
from tokenmill.contract import ResolvedTokenizer, Tokenizer, resolve
from tokenmill.devices import actual_device, table_environment, wants_accelerator
from tokenmill.streams import StreamSpec


class OnGpus(Tokenizer):
    id: ClassVar[str] = "on-gpus"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    libraries: ClassVar[tuple[str, ...]] = ("pytest", "no-such-distribution")

    def streams(self) -> dict[str, StreamSpec]:
        return {"ids": StreamSpec("uint8")}


class OnCpus(OnGpus):
    id: ClassVar[str] = "on-cpus"
    devices: ClassVar[tuple[str, ...]] = ("cpu",)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"on-gpus": OnGpus, "on-cpus": OnCpus}
    monkeypatch.setattr(devices, "tokenizer_class", kinds.__getitem__)


def resolved(kind: type[Tokenizer]) -> ResolvedTokenizer:
    return resolve(kind())


@pytest.mark.parametrize("has_cuda", [False, True])
def test_auto_is_a_gpu_where_tokenizer_and_machine_have_it(monkeypatch: pytest.MonkeyPatch, has_cuda: bool) -> None:
    monkeypatch.setattr(devices, "_sees_cuda", lambda: has_cuda)
    assert actual_device("auto", resolved(OnGpus)) == ("cuda" if has_cuda else "cpu")
    assert actual_device("auto", resolved(OnCpus)) == "cpu"
    assert actual_device("cuda:1", resolved(OnGpus)) == "cuda:1"
    assert actual_device("cpu", resolved(OnGpus)) == "cpu"


def test_a_machine_without_cuda_is_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    devices._sees_cuda.cache_clear()
    assert devices._sees_cuda() == torch.cuda.is_available()
    devices._sees_cuda.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not devices._sees_cuda()
    devices._sees_cuda.cache_clear()


@pytest.mark.parametrize(
    ("device", "kind", "wants"),
    [
        ("auto", OnGpus, True),
        ("auto", OnCpus, False),
        ("cpu", OnGpus, False),
        ("cuda", OnGpus, True),
        ("cuda:3", OnGpus, True),
    ],
)
def test_which_tables_are_scheduled_onto_accelerators(device: str, kind: type[Tokenizer], wants: bool) -> None:
    assert wants_accelerator(device, resolved(kind)) is wants


def test_the_environment_has_what_decides_this_tokenizers_tokens() -> None:
    found: dict[str, Any] = table_environment("cpu", resolved(OnGpus))
    assert found["device"] == "cpu"
    assert found["pytest"] == pytest.__version__
    assert "no-such-distribution" not in found
