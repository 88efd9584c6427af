import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tokenmill.errors import AssetError, RunError, TokenizerError
from tokenmill.tokenizers.networks import in_fixed_batches, load_weights, network_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("device", ["mps", "no-such-device", "cuda:x", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer 'karl' runs on the devices 'cpu' and 'cuda'"):
        network_device(device, "karl")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TokenizerError, match=r"is to run on 'cuda:1'; torch sees 1 CUDA devices") as caught:
        network_device("cuda:1", "vq")
    assert "device: cpu" in str(caught.value.fix)


def test_float32_is_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert network_device("cuda:1", "vq") == torch.device("cuda", 1)
    assert not torch.backends.cudnn.allow_tf32


def test_a_cpu_gets_one_thread() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert network_device("cpu", "vq") == CPU
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_network_sees_one_shape_only(count: int) -> None:
    seen: list[tuple[int, ...]] = []

    def run(batch: torch.Tensor) -> list[torch.Tensor]:
        seen.append(tuple(batch.shape))
        assert torch.is_inference_mode_enabled()
        return [batch * 2, batch.sum(dim=1)]

    items = torch.arange(count * 5, dtype=torch.float32).reshape(count, 5)
    doubled, sums = in_fixed_batches(run, items, 4, CPU)
    assert set(seen) == {(4, 5)}
    assert torch.equal(doubled, items * 2)
    assert torch.equal(sums, items.sum(dim=1))


def test_a_device_without_memory_names_the_batch() -> None:
    def run(batch: torch.Tensor) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="cpu ran out of memory with batches of 16") as caught:
        in_fixed_batches(run, torch.zeros(3, 2), 16, CPU)
    assert "`batch_size` below 16" in str(caught.value.fix)


class _Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self._path),))


def test_weights_run_no_code(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0)}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        assert torch.equal(load_weights(tmp_path / name)["a"], state["a"])
    torch.save({"a": _Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:20])
    for name in ("evil.pth", "list.pth", "cut.safetensors", "absent.pth"):
        with pytest.raises(AssetError) as caught:
            load_weights(tmp_path / name)
        assert name in str(caught.value)
    assert not (tmp_path / "ran").exists()
