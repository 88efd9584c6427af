import json
import platform

from tokenmill.environment import describe_environment, environment_difference


def test_names_versions_and_the_kind_of_device() -> None:
    found = describe_environment("cuda:3")
    assert found["device"] == "cuda"
    assert found["python"] == platform.python_version()
    assert {"numpy", "pyarrow", "tokenmill", "machine"} <= found.keys()
    assert json.loads(json.dumps(found)) == found


def test_each_description_is_its_own() -> None:
    describe_environment("cpu")["device"] = "spoilt"
    assert describe_environment("cpu")["device"] == "cpu"


def test_difference_is_named() -> None:
    before = describe_environment("cpu")
    assert environment_difference(before, dict(before)) is None
    assert environment_difference({**before, "numpy": "1.0"}, before) == f"numpy was 1.0, is now {before['numpy']}"
    without = {name: value for name, value in before.items() if name != "pyarrow"}
    assert environment_difference(before, without) == f"pyarrow was {before['pyarrow']}, is now absent"
    assert environment_difference(without, before) == f"pyarrow was absent, is now {before['pyarrow']}"
