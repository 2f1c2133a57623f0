"""`python -m bench [PART ...]`: Memora beside its rivals in one run, as ratios. All of them make bench/results.txt."""
import argparse
import contextlib
import sys

from bench import attach, caches, contest, keyspaces, messages, rows, seeds, sql, stopped, values, ycsb

PARTS = {"kv": keyspaces, "ycsb": ycsb, "values": values, "attach": attach, "stopped": stopped, "rows": rows, "sql": sql, "cache": caches, "topic": messages,
         "seeds": seeds}


def main(argv=None) -> int:
    """Returns 0: ratios are for reading; machines differ too much to fail for them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--keys", type=lambda text: [int(n) for n in text.split(",")], default=[100_000, 1_000_000],
                        help="numbers of keys of kv, comma separated; ycsb takes the last, the others the first")
    parser.add_argument("--batch", type=int, default=10000, help="operations a round")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that count; one more comes first")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of sql's greatest table")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long sql's two processes run, each round")
    parser.add_argument("--workloads", default="".join(ycsb.MIX), help="letters of ycsb")
    parser.add_argument("--stopped", type=float, default=10.0, metavar="SECONDS", help="how long the reader of stopped stands still")
    parser.add_argument("--iterations", type=int, default=1_000_000, help="of each row of seeds")
    parser.add_argument("--json", metavar="FILE", help="where seeds writes its tables, too")
    settings = parser.parse_args(argv)
    unknown = [part for part in settings.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")

    def say(line=""):
        print(line, flush=True)

    say(contest.machine())
    for name in settings.parts or PARTS:
        with contextlib.ExitStack() as stack:
            for lines in PARTS[name].run(settings, stack, say):
                for line in lines:
                    say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
