"""A trained model as files for others: programs, ONNX, model card, hub."""
