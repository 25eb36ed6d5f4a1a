-- What replaces the names in braces that concern the first stage of a search: what the vector index orders by, the query
-- in that form, how many rows are handed on to the second stage, and further columns to order by. While there is no basis
-- that the role may read, none is handed on, so every distance is computed.
CREATE FUNCTION semantic.first_stage_values_v1(spec jsonb, generation integer, depth integer, place name) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE
    WHEN spec #>> '{compressed,prefix}' IS NOT NULL THEN jsonb_build_object(
        'indexed', format('chunk.prefix OPERATOR(%I.<=>)', place),
        'aimed', format(
            'CAST(semantic.rotated_v1(%s, NULL, CAST($1 AS %I.vector)) AS %2$I.halfvec(%s))',
            generation, place, spec #>> '{compressed,prefix}'
        ),
        'handed_on', format('coalesce(semantic.candidates_v1(%s, NULL, true, %s), 0)', generation, depth),
        'ef_search', least(coalesce(semantic.candidates_v1(generation, NULL, true, depth), 100), 1000)
    )
    WHEN CAST(spec #>> '{compressed,bits}' AS boolean) THEN jsonb_build_object(
        'indexed', format(
            'CAST(%1$I.binary_quantize(chunk.vector) AS bit(%2$s)) OPERATOR(%1$I.<~>)',
            place, spec #>> '{encoder,dimensions}'
        ),
        'aimed', format(
            'CAST(%1$I.binary_quantize(CAST($1 AS %1$I.%3$I)) AS bit(%2$s))',
            place, spec #>> '{encoder,dimensions}', spec ->> 'storage'
        ),
        'handed_on', format('semantic.candidates_v1(%s, NULL, false, %s)', generation, depth),
        'ef_search', least(semantic.candidates_v1(generation, NULL, false, depth), 1000)
    )
    ELSE jsonb_build_object(
        'indexed', format('chunk.vector OPERATOR(%I.<=>)', place),
        'aimed', format('CAST($1 AS %I.%I)', place, spec ->> 'storage'),
        'handed_on', depth,
        'tie_break', CASE  -- since PostgreSQL 17, rows that arrive in order of distance can be sorted further
            WHEN CAST(current_setting('server_version_num') AS integer) >= 170000
            THEN ', ' || semantic.key_column_list_v1(spec, 'source.')
        END
    )
END;
