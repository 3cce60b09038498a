"""What the package names, and that its users are told what each name is."""

from __future__ import annotations

import inspect
import re
import types

import numpy as np
import pytest

import knetc as kn
from knetc.absent import DISTRIBUTIONS, NAMES
from knetc.numpy_table import ELSEWHERE

#: of NumPy's names, what tells about NumPy itself
_OWN = {"get_include", "info", "little_endian", "show_config", "show_runtime", "test", "ComplexWarning"}


def test_names_are_what_they_say() -> None:
    assert all(inspect.isroutine(getattr(kn, name)) for name in ("array", "param", "compile", "debug"))
    expected = """
        Param Array diff grad gradloss value params gcheck compile debug relu elu selu sigm tanh gelu silu softplus
        leaky_relu accuracy bce logistic logp logsoftmax logsumexp nll softmax dropout layernorm rmsnorm embedding
        param param0 xavier xavier_uniform xavier_normal gaussian SGD Momentum Nesterov Adagrad Rmsprop Adadelta Adam
        AdamW update minimize sgd momentum nesterov adagrad rmsprop adadelta adam minimize_ sgd_ momentum_ nesterov_
        adagrad_ rmsprop_ adadelta_ adam_ converge converge_ minibatch progress progress_ training seed abs2 acos
        permute_dims concat cat1d
    """
    assert not [name for name in expected.split() if not hasattr(kn, name)]


def test_what_users_call_is_documented() -> None:
    for name in kn.__all__:
        value = getattr(kn, name)
        if callable(value):
            assert (inspect.getdoc(value) or "").split("\n\n")[0].endswith("."), name


def test_every_name_of_numpys_is_there_or_told() -> None:
    told = {**ELSEWHERE, **NAMES}
    names = [n for n in dir(np) if not n.startswith("_") and not isinstance(getattr(np, n), types.ModuleType)]
    assert not [n for n in names if not hasattr(kn, n) and n not in told and n not in _OWN]
    draws = [n for n in dir(np.random.Generator) if not n.startswith("_")]
    assert not [n for n in draws if not hasattr(kn.random, n) and n not in DISTRIBUTIONS and n != "spawn"]
    assert not [n for n in dir(np.linalg) if callable(getattr(np.linalg, n)) and n not in ("LinAlgError", "test")
                and not hasattr(kn.linalg, n)]  # fmt: skip


def test_what_is_told_is_true() -> None:
    for module, table in ((kn, NAMES), (kn.random, DISTRIBUTIONS)):
        assert not [name for name in table if hasattr(module, name)]
    for name, advice in {**NAMES, **DISTRIBUTIONS}.items():
        for path in re.findall(r"kn\.((?:random\.)?\w+)", advice):
            assert all(hasattr(kn, part) or hasattr(kn.random, part) for part in path.split(".")), f"{name}: kn.{path}"


def test_a_name_that_is_not_there_says_what_to_use() -> None:
    for name, said in (("unsqueeze", "kn.expand_dims"), ("arrray", "nearest is kn.array"), ("fft", "numpy.fft")):
        with pytest.raises(AttributeError, match=said):
            getattr(kn, name)
    with pytest.raises(AttributeError, match=r"kn\.randint"):
        getattr(kn.random, "integers")  # noqa: B009
