"""What the package names, and that its users are told what each name is."""

from __future__ import annotations

import inspect

import knetc as kn


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
