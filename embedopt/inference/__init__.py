"""Makes embeddings. Functions import torch, onnxruntime and other runtimes when they need them."""
