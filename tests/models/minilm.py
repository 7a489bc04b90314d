"""Writes the MiniLM oracle of tests/oracles/minilm: token ids of three sentences at sequence 32 and what `transformers` makes of them.

    python minilm.py MODEL_FOLDER OUT        needs torch, transformers 5.23.0 and tokenizers; the result is committed
"""

import os
import pathlib
import sys

os.environ.update(CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
import numpy
import torch
import transformers
from tokenizers import Tokenizer

SENTENCES = ["Compilers turn programs into faster programs.", "A cat sat on the mat.", "The optimizer rewrote the whole graph in one go."]


def main():
    folder, out = sys.argv[1], pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(32)
    encoded = tokenizer.encode_batch(SENTENCES)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    embedding = pooled / pooled.norm(dim=-1, keepdim=True)
    numpy.save(out / "input_ids.npy", ids.numpy())
    numpy.save(out / "attention_mask.npy", mask.numpy())
    numpy.save(out / "last_hidden_state.npy", hidden.numpy())
    numpy.save(out / "embedding.npy", embedding.numpy())
    print("cosines", (embedding @ embedding.T).numpy().round(4).tolist())


if __name__ == "__main__":
    main()
