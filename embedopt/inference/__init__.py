"""Makes embeddings. Torch, onnxruntime and their like are imported by the functions that need them."""
