-- Fills the carried column, which a copy has for policies to use, in addition to the key. A foreign key on both keeps
-- it equal to the source, in the same statement that changes it there.
CREATE FUNCTION semantic.fill_policy_column_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    statement text := (
        SELECT format(
            'SELECT jsonb_build_object(%1$L, to_jsonb(_source.%1$I)) FROM %2$s AS _source WHERE %3$s',
            spec ->> 'policy_column', source, semantic.key_equality_sql_v1(source, spec, '_source.', '($1).')
        )
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        WHERE generation.receipts = TG_RELID
           OR generation.chunks IN (TG_RELID, (SELECT inhparent FROM pg_inherits WHERE inhrelid = TG_RELID))
    );
    carried jsonb;
BEGIN
    EXECUTE statement INTO carried USING NEW;
    NEW := jsonb_populate_record(NEW, carried);
    RETURN NEW;
END
$body$;
