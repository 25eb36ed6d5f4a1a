-- The columns and constraints of the chunk table of a copy, as CREATE TABLE takes them, but with the current key of the
-- source and another stem in the names of constraints.
CREATE FUNCTION semantic.table_elements_v1(generation_id integer, stem text, new_stem text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    (
        SELECT concat_ws(
            ' ', quote_ident(attname), coalesce(wanted, semantic.column_type_v1(attrelid, attname)),
            CASE WHEN attnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(adbin, adrelid)
        )
        FROM semantic.generation
        JOIN pg_attribute ON attrelid = chunks AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        LEFT JOIN semantic.altered_key_columns_v1(index_id) AS altered ON altered.relation = chunks AND part = attname
        WHERE generation.id = table_elements_v1.generation_id
        ORDER BY attnum
    )
    UNION ALL
    SELECT format('CONSTRAINT %I %s', CASE WHEN starts_with(conname, stem) THEN new_stem || substr(conname, length(stem) + 1)
                                           ELSE conname END, pg_get_constraintdef(pg_constraint.oid))
    FROM semantic.generation
    JOIN pg_constraint ON conrelid = chunks AND contype IN ('p', 'c')
    WHERE generation.id = table_elements_v1.generation_id
$body$;
