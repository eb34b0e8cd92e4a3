"""Joey NMT's configuration of the model that `luong_seq2seq` builds, as far as Joey can.

The same cell, sizes, vocabulary, attention (Luong's general score), input feeding and tied output.
What stays different: one bridge for both states of the LSTM (ours has one each), a bias in the
attention vector (ours has none), dropout before the attention vector (ours: after it).
"""

from pathlib import Path


def joey_config(
    folder: Path, *, units: int, layers: int, max_length: int, dropout: float, seed: int
) -> dict:
    """A configuration for files that lie in `folder`; JSON of it is YAML, as Joey reads it."""
    side = {
        "level": "bpe",
        "tokenizer_type": "sentencepiece",
        "tokenizer_cfg": {"model_file": str(folder / "joint.model")},
        "voc_file": str(folder / "joint.vocabulary"),
        "max_length": max_length,
    }
    embedding = {"embedding_dim": units, "scale": False, "dropout": dropout}
    recurrent = {"type": "recurrent", "rnn_type": "lstm", "num_layers": layers, "dropout": dropout}
    return {
        "name": "keras_luong_bench",
        "joeynmt_version": "2.3.0",
        "model_dir": str(folder / "model"),
        "use_cuda": False,
        "random_seed": seed,
        "data": {
            "train": str(folder / "train"),
            "dev": str(folder / "valid"),
            "test": str(folder / "test"),
            "dataset_type": "plain",
            "src": {"lang": "source", **side},
            "trg": {"lang": "target", **side},
        },
        "model": {
            "tied_embeddings": False,
            "tied_softmax": True,
            "encoder": {
                **recurrent,
                "embeddings": embedding,
                "hidden_size": units // 2,
                "bidirectional": True,
            },
            "decoder": {
                **recurrent,
                "embeddings": embedding,
                "hidden_size": units,
                "hidden_dropout": dropout,
                "attention": "luong",
                "init_hidden": "bridge",
                "input_feeding": True,
            },
        },
        "training": {
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            # Of Joey's schedules these two do not fail: "plateau" passes an argument that torch no
            # longer takes, "warmupexponentialdecay" no optimizer.
            "scheduling": "warmupinversesquareroot",
            "learning_rate": 0.002,
            "learning_rate_warmup": 400,
            "learning_rate_min": 0.0001,
            "label_smoothing": 0.1,
            "normalization": "tokens",
            "clip_grad_norm": 1.0,
            "batch_size": 64,
            "batch_type": "sentence",
            "epochs": 1000,  # the driver ends it by the clock
            "validation_freq": 500,
            "logging_freq": 50,
            "keep_best_ckpts": 2,
            "early_stopping_metric": "bleu",
            "print_valid_sents": [0],
            "overwrite": True,  # what a training that did not end has left
        },
        "testing": {
            "beam_size": 1,
            "batch_size": 64,
            "batch_type": "sentence",
            "max_output_length": max_length + 1,
            "eval_metrics": ["bleu"],
        },
    }
