-- Gives the tables of a copy the column that the policies of its source compare, kept equal by a foreign key. Does
-- nothing if they have it.
CREATE FUNCTION semantic.add_policy_column_v1(generation_id integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    wanted record;
    relation regclass;
BEGIN
    SELECT * INTO wanted FROM semantic.policy_column_v1(generation_id);
    IF NOT FOUND OR EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = wanted.receipts AND attname = wanted.name AND attnum > 0 AND NOT attisdropped
    ) THEN
        RETURN;  -- `index refresh` creates the views again
    ELSIF wanted.attnum IS NULL THEN
        RAISE EXCEPTION 'table % has no column %, which policy_column names', wanted.source, wanted.name
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Name the column that its policies compare.';
    ELSIF NOT wanted.attnotnull OR NOT EXISTS (
        SELECT FROM pg_index
        WHERE indrelid = wanted.source AND indisunique AND indimmediate AND indisvalid AND indpred IS NULL
          AND indexprs IS NULL AND indnkeyatts = cardinality(wanted.numbers) + 1
          AND wanted.numbers || wanted.attnum <@ (CAST(indkey AS smallint[]))
          AND (CAST(indkey AS smallint[]))[0:indnkeyatts - 1] <@ (wanted.numbers || wanted.attnum)
    ) THEN
        RAISE EXCEPTION 'column %, which policy_column names, must be NOT NULL and unique together with the key of %',
            quote_ident(wanted.name), wanted.source
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format(
            'Run: ALTER TABLE %s ALTER COLUMN %I SET NOT NULL, ADD UNIQUE (%s).', wanted.source, wanted.name,
            wanted.all_columns
        );
    END IF;
    FOREACH relation IN ARRAY ARRAY[wanted.chunks, wanted.receipts] LOOP
        EXECUTE (
            SELECT coalesce(
                string_agg(format('ALTER TABLE %s DROP CONSTRAINT %I', relation, conname), '; '), 'SELECT'
            )
            FROM pg_constraint
            WHERE conrelid = relation AND confrelid = wanted.source AND contype = 'f'
        );
        EXECUTE format(
            'ALTER TABLE %1$s ADD COLUMN %2$I %3$s NOT NULL, '
            'ADD FOREIGN KEY (%4$s) REFERENCES %5$s (%4$s) ON UPDATE CASCADE ON DELETE CASCADE',
            relation, wanted.name, wanted.type, wanted.all_columns, wanted.source
        );
        EXECUTE format('CREATE INDEX ON %s (%I)', relation, wanted.name);
        EXECUTE format(
            'CREATE TRIGGER fill_policy_column BEFORE INSERT ON %s '
            'FOR EACH ROW EXECUTE FUNCTION semantic.fill_policy_column_v1()', relation
        );
    END LOOP;
END
$body$;
