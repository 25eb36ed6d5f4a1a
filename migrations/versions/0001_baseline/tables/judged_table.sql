-- The tables with judged queries. A table keeps them if it is renamed, if its indexes are dropped and created again, and
-- in a copy of the database: see judged_table_v1. A new table with the name of one that has no index has the same queries
-- held out: it is likely to replace it, and one query too many does no harm. A source may have been dropped since; in a
-- copy of the database, another table can then have its OID.
CREATE TABLE semantic.judged_table (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source regclass NOT NULL,
    name text NOT NULL,  -- with its schema, when queries were last recorded
    UNIQUE (source, name)
);
