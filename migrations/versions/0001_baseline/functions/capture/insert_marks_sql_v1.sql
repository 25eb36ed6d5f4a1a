-- A template of the statement that marks rows: of those that `rows` selects, with the columns key and priority. Edits
-- come first, and a bulk change is not an edit: rows that a statement marks beyond the first thousand are processed as
-- backfill.
CREATE FUNCTION semantic.insert_marks_sql_v1(rows text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN format($template$
        INSERT INTO semantic.mark (generation_id, key, priority)
        SELECT generation.id, marked.key, marked.priority
        FROM (
            SELECT found.key, CAST(CASE WHEN row_number() OVER () > 1000 THEN 1 ELSE 0 END AS smallint) AS priority
            FROM (%s) AS found (key)
        ) AS marked
        CROSS JOIN (VALUES {generation_rows}) AS generation (id);$template$, rows);
