import keras
import numpy as np
import pytest

from keras_luong.training import GradientNorms

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 1))


def norms_of_a_line(w, epochs, rate, clip):
    """Norms of the gradients of `mean (x w - y)^2` over batches of 2, by hand, epoch by epoch."""
    norms = np.zeros((epochs, 3))
    for epoch in range(epochs):
        for step in range(3):
            x, y = X[2 * step : 2 * step + 2], Y[2 * step : 2 * step + 2]
            gradient = x.T @ (x @ w - y)  # 2 / batch = 1
            norms[epoch, step] = np.linalg.norm(gradient)
            w = w - rate * gradient * min(1.0, clip / norms[epoch, step])
    return norms


BOTH = pytest.mark.parametrize("jit_compile", [True, False])


@BOTH
def test_mean_and_largest_of_what_is_clipped(jit_compile):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    w = np.array([[0.5], [-2.0], [1.0]])
    model.set_weights([w])
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    callbacks = [GradientNorms()]
    history = model.fit(
        X, Y, batch_size=2, epochs=3, shuffle=False, callbacks=callbacks, verbose=0
    ).history
    norms = norms_of_a_line(w, 3, 0.1, 1.0)
    assert (norms > 1).any()  # something is clipped
    np.testing.assert_allclose(history["gradient_norm"], norms.mean(1), rtol=1e-5)
    np.testing.assert_allclose(history["gradient_norm_max"], norms.max(1), rtol=1e-5)

    assert "apply" not in vars(optimizer)
    history = model.fit(X, Y, verbose=0).history
    assert set(history) == {"loss"}


@BOTH
def test_accumulated_gradients_train_as_their_mean(jit_compile):
    """Two batches, one update; the norms are those of the single batches. By hand."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    w = np.array([[0.5], [-2.0], [1.0]])
    model.set_weights([w])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    options = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(X, Y, callbacks=[GradientNorms()], **options).history
    norms, waiting = [], []
    for step in range(6):  # an update reaches over the end of the epoch
        x, y = (one[2 * (step % 3) :][:2] for one in (X, Y))
        waiting.append(x.T @ (x @ w - y))
        norms.append(np.linalg.norm(waiting[-1]))
        if len(waiting) == 2:
            w, waiting = w - 0.1 * np.mean(waiting, axis=0), []
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-5)
    np.testing.assert_allclose(history["gradient_norm"], [np.mean(norms[:3]), np.mean(norms[3:])])


def test_what_an_interrupted_fit_left_is_not_counted_twice():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((2, 1))])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    data = np.array([[3.0, 4.0]]), np.array([[1.0]])
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, callbacks=[GradientNorms(), Interrupt()], verbose=0)
    history = model.fit(*data, callbacks=[GradientNorms()], verbose=0).history
    assert history["gradient_norm"] == [10.0]
    assert "apply" not in vars(model.optimizer)


def test_a_word_that_is_there_twice_has_one_gradient():
    inputs = keras.Input((2,), dtype="int32")
    table = keras.layers.Embedding(4, 1, embeddings_initializer="zeros")
    model = keras.Model(inputs, keras.ops.sum(table(inputs), axis=(1, 2)))
    model.compile("sgd", "mse")
    # (a + a - 1)^2 has the gradient -2 x 2 at a = 0; two of -2 would have the norm 2.8.
    history = model.fit(
        np.array([[1, 1]]), np.array([1.0]), callbacks=[GradientNorms()], verbose=0
    ).history
    assert history["gradient_norm"] == [4.0]


@BOTH
def test_no_number_is_never_lost(jit_compile):
    class Gradients(keras.layers.Layer):
        """Its weight's gradient is the input."""

        def build(self, shape):
            self.weight = self.add_weight(shape=(), initializer="zeros")

        def call(self, inputs):
            return self.weight * inputs

    class Itself(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    model = keras.Sequential([keras.Input((1,)), Gradients()])
    model.compile(keras.optimizers.SGD(0.0), Itself(), jit_compile=jit_compile)
    x = np.array([[1.0], [np.nan], [5.0]])
    options = {"batch_size": 1, "shuffle": False, "verbose": 0}
    history = model.fit(x, x, callbacks=[GradientNorms()], **options).history
    assert np.isnan(history["gradient_norm"] + history["gradient_norm_max"]).all()
    finite = model.fit(x[::2], x[::2], callbacks=[GradientNorms()], **options).history
    assert (finite["gradient_norm"], finite["gradient_norm_max"]) == ([3.0], [5.0])


def test_the_loss_scale_is_taken_out():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.zeros((2, 1))])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=64.0)
    model.compile(optimizer, "mse")
    data = np.array([[3.0, 4.0]]), np.array([[1.0]])
    history = model.fit(*data, callbacks=[GradientNorms()], verbose=0).history
    assert history["gradient_norm"] == [10.0]


def test_several_replicas_are_refused():
    class Strategy:
        num_replicas_in_sync = 2

    class Model:
        distribute_strategy = Strategy

    callback = GradientNorms()
    callback.set_model(Model)
    with pytest.raises(RuntimeError, match="single replica. Received: 2"):
        callback.on_train_begin()
