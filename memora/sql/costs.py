"""What reading costs, in units of one row of a scan; and how many rows a condition leaves. All guesses of the planner are here.

ROWS      of a table: what ANALYZE counted, else what its tree seems to hold, at least LEAST_ROWS, so that a plan made for an empty table
          still uses its indexes; unknown (filled by the transaction that asks): UNKNOWN_ROWS, as in SQLite.
LEAVES    column = value by an index: the average of sqlite_stat1, else 10 rows for the first column and one less for each further one;
          one limit of a range a quarter, both a sixty-fourth, as SQLite guesses (sqlite.org/optoverview.html, whereRangeScanEst);
          a subquery behind IN has 25 values.
COSTS     measured with 300 000 rows of six columns, a row of a scan being 35 ns: a look-up by rowid 170 ns and growing with the depth of the
          tree, an entry of an index 50 ns and its row 350 ns, entering a row into a hash 330 ns and asking it 75 ns, sorting a row 400 ns.
          A row behind an index entry counts for less than was measured: who asks for a range mostly asks for less than a quarter.
"""
from __future__ import annotations

import math

UNKNOWN_ROWS = 1000000.0
LEAST_ROWS = 1000.0
PYTHON_ROWS = 1000.0        # of a table-valued function
RECURSIVE_ROWS = 1000.0
FEEDBACK_ROWS = 1.0         # a recursive table is read row by row
SUBQUERY_VALUES = 25.0
SUBQUERY_RUNS = 25.0        # of a query that reads the row around it
FIRST_EQUAL, LEAST_EQUAL = 10.0, 2.0
GROUPS = 0.1                # groups, in rows

ENTRY = 1.1                 # of a covering index
ROW = 3.0                   # behind an index entry
PARTIAL = 0.75              # of a table's rows, in a partial index of unknown size
HASH_BUILD = 8.0
HASH_PROBE = 2.0
SORT = 0.5                  # for each row and doubling of the rows
FIRST_ROWS = 0.05           # what a LIMIT leaves of the cost


def seek(rows):
    """Of finding a key in a tree."""
    return 1.0 + 0.27 * math.log2(rows + 2.0)


def sort(rows):
    """Of sorting rows."""
    return rows * math.log2(rows + 2.0) * SORT


def ranged(low, high):
    """What a range of one column leaves of the rows."""
    return (1.0 / 64.0 if low and high else 0.25) if low or high else 1.0


class Sizes:
    """What is known of the tables of one statement. used: table -> rows, of those that were asked about; guesses: tree -> rows
    of those in the main database that were guessed."""

    def __init__(self, environment):
        self.environment, self.used, self.guesses = environment, {}, {}

    def rows(self, table):
        """Rows of a table."""
        found = self.used.get(table)
        if found is None:
            statistics = self.statistics(table)
            found = None if statistics is None else statistics.rows(table)
            if found is None:
                found = self.environment.entries_about(table.database, table.tree)
                found = UNKNOWN_ROWS if found < 0 else max(float(found), LEAST_ROWS)
                if table.database == "main":
                    self.guesses[table.tree] = found
            self.used[table] = found
        return found

    def statistics(self, table):
        return self.environment.statistics(table.database)

    def entries(self, index):
        """Entries of an index."""
        rows = self.rows(index.table)
        if index.where is None:
            return rows
        statistics = self.statistics(index.table)
        numbers = None if statistics is None else statistics.index(index)
        found = numbers[0] if numbers is not None else self.environment.entries_about(index.table.database, index.tree)
        return rows * PARTIAL if found < 0 else min(max(float(found), 1.0), rows)

    def equal(self, index, n, before, rows):
        """Rows for one value of each of the first n columns of an index, if there are `before` for one column less, and `rows` in all."""
        statistics = self.statistics(index.table)
        numbers = None if statistics is None else statistics.index(index)
        if numbers is not None and len(numbers) > n:
            return float(numbers[n])
        return min(FIRST_EQUAL if n == 1 else max(before - 1.0, LEAST_EQUAL), rows)
