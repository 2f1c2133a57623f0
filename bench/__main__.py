"""`python -m bench`: Memora beside its rivals in one run, as ratios."""
import argparse
import contextlib
import sys

from bench import contest, keyspaces


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help="kv; default: all")
    parser.add_argument("--keys", default="100000,1000000", help="numbers of keys, comma separated")
    parser.add_argument("--batch", type=int, default=10000, help="operations a round")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(argv)

    def say(line=""):
        print(line, flush=True)

    say(contest.machine())
    for n in map(int, args.keys.split(",")):
        say(f"\nkey space, {n} keys of 16 B, values of {keyspaces.VALUE_BYTES} B, one transaction an operation, on tmpfs, nothing synced")
        with contextlib.ExitStack() as stack:
            for workload, results in keyspaces.run(n, args.batch, args.rounds, stack, say):
                for line in contest.table(results, keyspaces.BARS.get(workload, {})):
                    say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
