-- The number of a table with judged queries; NULL if it has none. A table that was dropped and created again is found by
-- its name, unless the table that had the name is still indexed under another one.
CREATE FUNCTION semantic.judged_table_v1(judged regclass) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
RETURN (
    SELECT known.id
    FROM semantic.judged_table AS known
    WHERE known.source = judged OR (
        known.name = CAST(judged AS text) AND NOT EXISTS (
            SELECT FROM semantic.semantic_index
            JOIN pg_class ON pg_class.oid = semantic_index.source
            WHERE semantic_index.source = known.source
        )
    )
    ORDER BY known.source = judged DESC, known.name = CAST(judged AS text) DESC, known.id DESC
    LIMIT 1
);
