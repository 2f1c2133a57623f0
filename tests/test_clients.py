"""The libraries that people use databases with: SQLAlchemy over `memora://`, pandas over it and over memora.dbapi."""
import warnings
from decimal import Decimal
from pathlib import Path

import pytest

import memora.dbapi

sa = pytest.importorskip("sqlalchemy")
registry = pytest.importorskip("sqlalchemy.dialects").registry


@pytest.fixture
def engine(tmp_path):
    registry.register("memora", "memora.sqlalchemy", "MemoraDialect")      # also where the checkout is not installed
    engine = sa.create_engine(f"memora:///{tmp_path}/data")
    yield engine
    engine.dispose()


def tables():
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20), unique=True))
    child = sa.Table("child", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("price", sa.Numeric(10, 2)),
                     sa.Column("parent", sa.ForeignKey("parent.id", ondelete="CASCADE")), sa.Column("more", sa.JSON))
    sa.Index("by_price", child.c.price, sqlite_where=child.c.price > 0)
    return metadata, parent, child


def test_entry_point():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '[project.entry-points."sqlalchemy.dialects"]\nmemora = "memora.sqlalchemy:MemoraDialect"\n' in text


def test_reflection(engine):
    metadata, _, _ = tables()
    metadata.create_all(engine)
    seen = sa.inspect(engine)
    assert sorted(seen.get_table_names()) == ["child", "parent"]
    assert [str(column["type"]) for column in seen.get_columns("child")] == ["INTEGER", "NUMERIC(10, 2)", "INTEGER", "JSON"]
    key, = seen.get_foreign_keys("child")
    assert (key["constrained_columns"], key["referred_table"], key["options"]) == (["parent"], "parent", {"ondelete": "CASCADE"})
    assert [index["name"] for index in seen.get_indexes("child")] == ["by_price"]
    assert [unique["column_names"] for unique in seen.get_unique_constraints("parent")] == [["name"]]
    again = sa.MetaData()
    again.reflect(engine)
    assert set(again.tables) == {"child", "parent"}
    metadata.drop_all(engine)
    assert sa.inspect(engine).get_table_names() == []


def test_statements(engine):
    metadata, parent, child = tables()
    metadata.create_all(engine)
    with engine.begin() as connection:
        rows = connection.execute(parent.insert().returning(parent.c.id), [{"name": "a"}, {"name": "b"}]).all()
        assert rows == [(1,), (2,)]
        connection.execute(child.insert(), {"parent": 1, "price": Decimal("2.50"), "more": {"n": [1]}})
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(child.delete())
        connection.execute(parent.insert(), {"name": "a"})
    with engine.connect() as connection:
        joined = sa.select(parent.c.name, child.c.price, child.c.more["n"][0].as_integer()).join(child)
        assert connection.execute(joined).all() == [("a", Decimal("2.50"), 1)]
        assert connection.execute(sa.select(parent.c.name).where(parent.c.name.regexp_match("^[b-z]"))).all() == [("b",)]
        assert connection.get_isolation_level() == "SERIALIZABLE"


def test_orm_with_savepoint(engine):
    from sqlalchemy.orm import Session, registry as mappings
    metadata, parent, _ = tables()
    metadata.create_all(engine)

    class Parent:
        pass
    mappings().map_imperatively(Parent, parent)
    with Session(engine) as session:
        one = Parent()
        one.name = "kept"
        session.add(one)
        session.commit()
        one.name = "changed"
        session.flush()
        session.rollback()
        assert session.scalars(sa.select(Parent.name)).all() == ["kept"]


def test_a_conflict_is_an_operational_error(engine):
    metadata, parent, _ = tables()
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(parent.insert(), {"name": "a"})
    with pytest.raises(sa.exc.OperationalError) as caught, engine.begin() as first:
        first.execute(sa.update(parent).values(name=parent.c.name + "1"))
        with engine.begin() as second:
            second.execute(sa.update(parent).values(name=parent.c.name + "2"))
    assert type(caught.value.orig).__name__ == "SerializationError"
    with engine.connect() as connection:
        assert connection.execute(sa.select(parent.c.name)).all() == [("a2",)]


@pytest.mark.parametrize("url, message", [("memora://user@host/x", "no user and no host"), ("memora:///x?colour=red", "colour")])
def test_bad_urls(url, message, engine):
    with pytest.raises(sa.exc.ArgumentError, match=message):
        sa.create_engine(url).connect()


def test_pandas(engine):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": [1, 2, 3], "text": ["x", "y", "z"], "real": [0.5, float("nan"), -1.0],
                              "at": pandas.date_range("2024-01-01", periods=3)})
    assert frame.to_sql("frame", engine, index=False) == 3
    back = pandas.read_sql_table("frame", engine)
    assert back["n"].tolist() == [1, 2, 3] and back["at"].tolist() == frame["at"].tolist()
    assert back["real"].isna().tolist() == [False, True, False]
    con = memora.dbapi.connect(":memory:")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)      # pandas has tested sqlite3's connections only, and says so
            frame.to_sql("frame", con, index=False)
            frame.to_sql("frame", con, index=False, if_exists="append")
            found = pandas.read_sql("SELECT n, text FROM frame WHERE n > ? ORDER BY n", con, params=(1,))
            assert found["text"].tolist() == ["y", "y", "z", "z"]
            frame.to_sql("frame", con, index=False, if_exists="replace")
            assert pandas.read_sql("SELECT count(*) AS n FROM frame", con)["n"].tolist() == [3]
    finally:
        con.close()
