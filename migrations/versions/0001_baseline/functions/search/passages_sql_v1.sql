-- A template of the final SELECT of a search: the rows with their best passage.
CREATE FUNCTION semantic.passages_sql_v1() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN $sql$
    SELECT {found_key}, found._value, passage.content, passage.ordinal
    FROM (
        SELECT * FROM {mode} AS found
        WHERE $4 IS NULL OR _value >= $4 {comparable}
        ORDER BY {step} found._value DESC, {key}
        LIMIT $3
    ) AS found
    LEFT JOIN LATERAL (
        SELECT chunk.content, chunk.ordinal
        FROM {chunks} AS chunk
        WHERE {chunk_of_found}
        ORDER BY {relevance}, chunk.ordinal
        LIMIT 1
    ) AS passage ON true
    ORDER BY {step} found._value DESC, {found_key}$sql$;
