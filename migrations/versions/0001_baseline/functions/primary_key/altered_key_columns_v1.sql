-- Key columns whose type or collation differs between the source and the tables of a copy, as after ALTER TABLE.
-- Here, a domain counts as its base type. `quick` means that the copy can be altered without a rewrite, and
-- `castable` that the server can cast the old key to the new one: an integer to a bigint, but not to a uuid. An array
-- can be cast if its elements can.
CREATE FUNCTION semantic.altered_key_columns_v1(known_index integer)
RETURNS TABLE (
    generation_id integer, relation regclass, part name, has text, wanted text, quick boolean, castable boolean
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT generation.id, own.attrelid, own.attname, own_type.name, source_type.name,
           old.oid = new.oid
               OR old.oid IN ('text'::regtype, 'varchar'::regtype)
               AND new.oid IN ('text'::regtype, 'varchar'::regtype),
           old_part.oid = new_part.oid OR 'S' IN (old_part.typcategory, new_part.typcategory)
               OR EXISTS (SELECT FROM pg_cast WHERE (castsource, casttarget) = (old_part.oid, new_part.oid))
    FROM semantic.semantic_index
    JOIN semantic.generation ON generation.index_id = semantic_index.id
    CROSS JOIN LATERAL jsonb_array_elements(generation.spec -> 'key') AS key (value)
    JOIN pg_attribute AS own
        ON own.attrelid IN (generation.chunks, generation.receipts) AND own.attname = key.value ->> 'name'
    JOIN pg_attribute AS source
        ON source.attrelid = semantic_index.source AND source.attname = own.attname AND NOT source.attisdropped
    CROSS JOIN LATERAL semantic.column_type_v1(own.attrelid, own.attname) AS own_type (name)
    CROSS JOIN LATERAL semantic.column_type_v1(source.attrelid, source.attname) AS source_type (name)
    CROSS JOIN LATERAL semantic.base_type_v1(own.atttypid) AS own_base
    CROSS JOIN LATERAL semantic.base_type_v1(source.atttypid) AS source_base
    JOIN pg_type AS old ON old.oid = own_base.base
    JOIN pg_type AS new ON new.oid = source_base.base
    LEFT JOIN LATERAL semantic.base_type_v1(old.typelem) AS old_element
        ON old.typcategory = 'A' AND new.typcategory = 'A'
    LEFT JOIN LATERAL semantic.base_type_v1(new.typelem) AS new_element
        ON old.typcategory = 'A' AND new.typcategory = 'A'
    JOIN pg_type AS old_part ON old_part.oid = coalesce(old_element.base, old.oid)
    JOIN pg_type AS new_part ON new_part.oid = coalesce(new_element.base, new.oid)
    WHERE semantic_index.id = known_index AND own_type.name <> source_type.name
$body$;
