"""`python -m memora [NAME]` is the shell; `python -m memora demo` runs the demo."""
import sys


def main(argv=None):
    """Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["demo"]:
        from memora import demo
        return demo.main(arguments[1:])
    from memora import shell
    return shell.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
