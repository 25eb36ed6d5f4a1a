-- Rejects columns that cannot be text columns: those that don't exist and, if a copy is about to begin, those that
-- aren't text.
CREATE FUNCTION semantic.require_text_columns_v1(index_source regclass, spec jsonb, to_begin boolean) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    wanting record;
BEGIN
    SELECT named.value AS name, format_type(atttypid, atttypmod) AS type INTO wanting
    FROM jsonb_array_elements_text(spec -> 'columns') WITH ORDINALITY AS named (value, number)
    LEFT JOIN pg_attribute
        ON attrelid = index_source AND attname = named.value AND attnum > 0 AND NOT attisdropped
    WHERE atttypid IS NULL OR to_begin AND NOT semantic.is_text_type_v1(atttypid)
    ORDER BY named.number
    LIMIT 1;
    IF FOUND AND wanting.type IS NULL THEN
        RAISE EXCEPTION 'table % has no column %, and a copy with columns % reads it',
            index_source, quote_ident(wanting.name), spec -> 'columns'
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = CASE WHEN to_begin THEN 'Name existing text columns.'
                ELSE 'A copy that reads a missing column can only be dropped: pg-semantic generation drop.' END;
    ELSIF FOUND THEN
        RAISE EXCEPTION 'column % of table % is not text but %',
            quote_ident(wanting.name), index_source, wanting.type
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name text columns, or add a generated column '
            'with the text (GENERATED ALWAYS AS (...) STORED) and name that.';
    END IF;
END
$body$;
