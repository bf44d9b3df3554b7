"""What a project declares becomes a row; what can't be meant is refused with its place in the file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedopt.errors import UsageError
from embedopt.inference.backends import BACKENDS, declare, declared, get_backend, select_backends
from embedopt.inference.targets import Target, declare_targets, read_targets
from tests.inference.projects import make_project


@pytest.fixture(autouse=True)
def _only_our_rows() -> Iterator[None]:
    yield
    declare([])


def test_a_target_is_a_row_beside_ours(tmp_path: Path) -> None:
    ours = tuple(BACKENDS)
    declare_targets(make_project(tmp_path, python=".venv/bin/python", timeout_s=5))
    [row] = declared()
    assert row is get_backend("shop")
    assert row.project == tmp_path
    assert row.model == "none"
    assert row.open_options == {
        "call": "shop.embedding:embed",
        "python": ".venv/bin/python",
        "source": "src",
        "model": "none",
        "timeout_s": 5,
    }
    assert select_backends(["shop", "torch-fp32"]) == (get_backend("torch-fp32"), row)
    assert select_backends(["all"])[-1] is row
    assert tuple(BACKENDS) == (*ours, "shop")


def test_a_project_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    declare_targets(make_project(tmp_path))
    declare_targets(tmp_path / "nowhere")
    assert declared() == ()
    with pytest.raises(UsageError, match="unknown backend 'shop'"):
        get_backend("shop")


def test_a_model_is_a_folder_of_the_project_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "models" / "shop").mkdir(parents=True)
    declare_targets(make_project(tmp_path, model="models/shop"))
    assert get_backend("shop").model == str(tmp_path / "models" / "shop")
    declare_targets(make_project(tmp_path, model="intfloat/e5-small"))
    assert get_backend("shop").model == "intfloat/e5-small"


def test_the_source_of_the_project_is_that_of_each_target(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.embedopt]\nsource = "python"\n'
        '[tool.embedopt.targets.a]\ncall = "m:f"\n[tool.embedopt.targets.b]\ncall = "m:f"\nsource = "lib"\n',
        encoding="utf8",
    )
    assert read_targets(tmp_path) == {
        "a": Target(call="m:f", source="python"),
        "b": Target(call="m:f", source="lib"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.embedopt.targets.shop]\ncal = 'a:b'", r"shop\]: unknown setting 'cal'; known are: call, "),
        ("[tool.embedopt.targets.shop]\npython = 'x'", r"shop\] has no call; wanted call = module:name, s"),
        ("[tool.embedopt.targets.shop]\ncall = 'a b'", r"shop\]: call is 'a b'; wanted module:name, such as"),
        (
            "[tool.embedopt.targets.shop]\ncall = 'a:b'\ntimeout_s = 0",
            r"timeout_s is 0; wanted seconds above",
        ),
        (
            "[tool.embedopt.targets]\nshop = 'a:b'",
            r"shop\] is 'a:b'; wanted a table with call = 'module:name'",
        ),
        (
            "[tool.embedopt.targets.all]\ncall = 'a:b'",
            r"all\] has a name that no option can hold; wanted lett",
        ),
        (
            "[tool.embedopt.targets.'a,b']\ncall = 'a:b'",
            r"a,b\] has a name that no option can hold; wanted le",
        ),
        (
            "[tool.embedopt.targets.onnx-int8]\ncall = 'a:b'",
            r"onnx-int8\] has the name of a backend of embed",
        ),
        ("[tool", r"pyproject\.toml can't be read \(.*\); wanted TOML: mend it"),
    ],
)
def test_a_table_that_means_nothing_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf8")
    with pytest.raises(UsageError, match=message) as caught:
        declare_targets(tmp_path)
    assert "\n" not in str(caught.value)
