-- Tables of an index whose foreign key to the source is missing or not validated. The foreign key cascades, is
-- enforced, and covers exactly the key and the carried column. Any others must be dropped: `drops` has the first
-- actions of an ALTER TABLE that does this.
CREATE FUNCTION semantic.unsound_foreign_keys_v1(known_index integer)
RETURNS TABLE (
    relation regclass, generation_id integer, source regclass, key text, name name, valid boolean, drops text
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT part.relation, generation.id, semantic_index.source, wanted.columns, conname, convalidated,
           (
               SELECT coalesce(string_agg(format('DROP CONSTRAINT %I, ', other.conname), ''), '')
               FROM pg_constraint AS other
               WHERE other.conrelid = part.relation AND other.confrelid = semantic_index.source
                 AND other.contype = 'f' AND other.conparentid = 0 AND pg_constraint.oid IS NULL
           )
    FROM semantic.semantic_index
    JOIN semantic.generation ON generation.index_id = semantic_index.id
    JOIN pg_class AS source ON source.oid = semantic_index.source
    CROSS JOIN LATERAL (VALUES (generation.chunks), (generation.receipts)) AS part (relation)
    JOIN pg_class ON pg_class.oid = part.relation
    CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(named.name), ', ' ORDER BY named.number) AS columns,
               array_agg(attnum) AS numbers
        FROM (
            SELECT part.value ->> 'name', part.number
            FROM jsonb_array_elements(generation.spec -> 'key') WITH ORDINALITY AS part (value, number)
            UNION ALL
            SELECT generation.spec ->> 'policy_column', 1000  -- the carried column
        ) AS named (name, number)
        LEFT JOIN pg_attribute ON attrelid = part.relation AND attname = named.name AND NOT attisdropped
        WHERE named.number < 1000 OR named.name IS NOT NULL AND NOT generation.spec -> 'key' @>
            jsonb_build_array(jsonb_build_object('name', named.name))
    ) AS wanted
    LEFT JOIN pg_constraint
        ON conrelid = part.relation AND confrelid = semantic_index.source AND contype = 'f' AND conparentid = 0
        AND confdeltype = 'c' AND confupdtype = 'c' AND conkey @> wanted.numbers AND conkey <@ wanted.numbers
        AND to_jsonb(pg_constraint) -> 'conenforced' IS DISTINCT FROM 'false'  -- new in PostgreSQL 18
    WHERE semantic_index.id = known_index AND convalidated IS NOT TRUE
$body$;
