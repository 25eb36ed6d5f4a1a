-- The policies that a table of a copy needs; `own` is its name, and `origin` that of the source. They are the
-- source's own policies, or a policy that looks up the row in the source, with the privileges and policies of the current
-- role. The lookup doesn't use EXISTS, for which the server may read the whole source first, however few rows are
-- needed. No policies if the source has no row-level security.
CREATE FUNCTION semantic.wanted_policies_v1(relation regclass, origin text, own text)
RETURNS TABLE (name text, kind text, roles oid[], condition text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH copy AS MATERIALIZED (
        SELECT semantic_index.source, spec, semantic.copyable_policies_v1(semantic_index.source, spec) AS carried
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        JOIN pg_class AS source ON source.oid = semantic_index.source AND source.relrowsecurity
        WHERE relation IN (generation.chunks, generation.receipts)
    )
    SELECT CAST(polname AS text), CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, polroles,
           pg_get_expr(polqual, polrelid)
    FROM copy
    JOIN pg_policy ON pg_policy.oid = ANY (carried)
    UNION ALL
    SELECT 'as_source', 'PERMISSIVE', CAST('{0}' AS oid[]), format(
        '(SELECT true FROM %s AS _source WHERE %s LIMIT 1)', origin,
        string_agg(
            format('_source.%1$I OPERATOR(%2$I.=) %3$s.%1$I', attname, nspname, own), ' AND ' ORDER BY part.number
        )
    )
    FROM copy
    CROSS JOIN LATERAL jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
    JOIN pg_attribute ON attrelid = copy.source AND attname = part.value ->> 'name'
    JOIN pg_index ON indrelid = copy.source AND indisprimary
    JOIN pg_opclass ON pg_opclass.oid = indclass[array_position(CAST(indkey AS smallint[]), attnum)]
    JOIN pg_amop ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
        AND amopstrategy = 3  -- equality, in a B-tree
    JOIN pg_operator ON pg_operator.oid = amopopr
    JOIN pg_namespace ON pg_namespace.oid = oprnamespace
    WHERE carried IS NULL
    GROUP BY copy.source
$body$;
