"""python -m geoguesser.export: a trained run as a folder for others, with programs of torch.export and ONNX."""

from geoguesser.cli import command

main = command("export")

if __name__ == "__main__":
    main()
