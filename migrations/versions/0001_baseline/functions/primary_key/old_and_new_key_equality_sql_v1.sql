-- The condition that an old row and a new one have the same key, with the operators of the index that keeps the key
-- unique, which may be outside pg_catalog. Rejects a key that does not allow a FULL JOIN.
CREATE FUNCTION semantic.old_and_new_key_equality_sql_v1(index_source regclass, key text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    comparison record;
BEGIN
    SELECT string_agg(
               format('old_rows.%1$I OPERATOR(%2$I.%3$s) new_rows.%1$I', attname, nspname, coalesce(oprname, '=')),
               ' AND ' ORDER BY number
           ) AS condition,
           bool_and(coalesce(oprcanmerge, true)) OR bool_and(coalesce(oprcanhash, true)) AS can_join,
           string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY number) AS columns
    INTO comparison
    FROM unnest(key) WITH ORDINALITY AS named (name, number)
    JOIN pg_attribute ON attrelid = index_source AND attname = named.name AND NOT attisdropped
    LEFT JOIN LATERAL (
        SELECT opcfamily, opcintype
        FROM pg_index
        CROSS JOIN unnest(indkey, indclass) AS part (attnum, opclass)
        JOIN pg_opclass ON pg_opclass.oid = part.opclass
        WHERE indrelid = index_source AND indisunique AND indpred IS NULL
          AND part.attnum = pg_attribute.attnum
        ORDER BY indisprimary DESC, indexrelid
        LIMIT 1
    ) AS unique_by ON true
    LEFT JOIN pg_amop
        ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype AND amopstrategy = 3
    LEFT JOIN pg_operator ON pg_operator.oid = amopopr
    JOIN pg_namespace ON pg_namespace.oid = coalesce(oprnamespace, CAST('pg_catalog' AS regnamespace));
    IF NOT comparison.can_join THEN
        RAISE EXCEPTION 'the key of table % (%) cannot be joined on: its equality operator supports neither '
            'merge nor hash joins', index_source, comparison.columns
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Declare the operator with MERGES or HASHES (CREATE OPERATOR), or give the table another key.';
    END IF;
    RETURN comparison.condition;
END
$body$;
