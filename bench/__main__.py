"""`python -m bench [kv] [sql] [cache] [topic]`: Memora beside its rivals in one run, as ratios."""
import argparse
import contextlib
import sys

from bench import caches, contest, keyspaces, messages, rows

PARTS = {"kv": keyspaces, "sql": rows, "cache": caches, "topic": messages}


def main(argv=None) -> int:
    """Returns 0: ratios are for reading; machines differ too much to fail for them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--keys", default="100000,1000000", help="numbers of keys of kv, comma separated; sql and cache take the first")
    parser.add_argument("--batch", type=int, default=10000, help="operations a round")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count; one more comes first")
    args = parser.parse_args(argv)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")

    def say(line=""):
        print(line, flush=True)

    def show(title, bars, workloads):
        say("\n" + title)
        for workload, results in workloads:
            for line in contest.table(results, bars.get(workload, {})):
                say(line)

    say(contest.machine())
    sizes = [int(n) for n in args.keys.split(",")]
    for name in args.parts or PARTS:
        part = PARTS[name]
        for n in sizes if name == "kv" else sizes[:1]:
            with contextlib.ExitStack() as stack:
                if name == "topic":
                    show(part.TITLE, {}, part.run(args.batch, args.rounds, stack, say))
                else:
                    show(part.TITLE.format(n=n), part.BARS, part.run(n, args.batch, args.rounds, stack, say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
