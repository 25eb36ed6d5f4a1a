-- A sentence that describes the privileges on an index.
CREATE FUNCTION semantic.describe_privileges_v1(known_index integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT format(
        'Semantic index %s can be read by the same roles as %s: %s. %s. Only the owner can write to it.',
        semantic_index.name,
        semantic_index.source,
        coalesce(
            (
                SELECT string_agg(
                    CASE role WHEN 0 THEN 'every role' ELSE CAST(CAST(role AS regrole) AS text) END, ', '
                    ORDER BY role
                )
                FROM semantic.readers_v1(live.id) AS role
            ),
            'only its owner'
        ),
        CASE semantic.row_visibility_v1(live.id)
            WHEN 'open' THEN 'No row is hidden'
            WHEN 'source' THEN 'Its policies ask the table which rows a role can see'
            ELSE 'The policies of the table apply to it, by a column of its own'
        END
    )
    FROM semantic.semantic_index
    JOIN semantic.generation AS live ON live.index_id = semantic_index.id AND live.role = 'live'
    WHERE semantic_index.id = known_index
$body$;
