"""A two-layer network learns the handwritten digits that scikit-learn ships, from five initialisations.

    python examples/digits_mlp.py [--epochs 30] [--runs 5]

The model is plain Python over parameters. The first call of the optimizer traces the loss, differentiates it, and
compiles forward pass, backward pass and all updates into one program, which the other runs use again.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import knetc as kn


class MLP:
    """Two layers: ``inputs -> hidden`` (relu) ``-> classes``. Weights are (out, in), as Knet has them."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        self.w1, self.b1 = kn.param(hidden, inputs), kn.param0(hidden)
        self.w2, self.b2 = kn.param(classes, hidden), kn.param0(classes)

    def __call__(self, x: kn.Array) -> kn.Array:
        """Scores ``[N, classes]`` of images ``x: [N, inputs]``."""
        hidden = kn.relu(x @ self.w1.T + self.b1)
        return hidden @ self.w2.T + self.b2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    print(f"{len(x_train)} digits to learn from, {len(x_test)} to be tested on, {images.shape[1]} pixels each")

    accuracies = []
    for run in range(options.runs):
        kn.seed(run)
        model = MLP(images.shape[1], 256, 10)

        def loss(x: kn.Array, y: kn.Array, model: MLP = model) -> kn.Array:
            return kn.nll(model(x), y)

        train = kn.minibatch(x_train, y_train, 64, shuffle=True)
        test = kn.minibatch(x_test, y_test, 64, partial=True)
        before = time.perf_counter()
        steps = kn.adam(loss, [batch for _ in range(options.epochs) for batch in train], lr=0.003)
        kn.progress_(steps)
        seconds = time.perf_counter() - before
        accuracies.append(kn.accuracy(model, test))
        print(f"run {run}: test accuracy {accuracies[-1]:.2%} after {options.epochs} epochs in {seconds:.2f} s")
    print(f"mean test accuracy over {options.runs} initialisations: {np.mean(accuracies):.2%}")
    print("\nWhat was compiled for a training step:")
    print(kn.summary(steps))


if __name__ == "__main__":
    main()
