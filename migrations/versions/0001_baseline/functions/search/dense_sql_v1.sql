-- A template of the common table expression `dense`: rows by their nearest chunk, through the vector index (`near`), or
-- with every distance computed if that finds too few rows.
CREATE FUNCTION semantic.dense_sql_v1() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN $sql$
    near AS MATERIALIZED (
        SELECT * FROM (
            SELECT {source_key}, 1 - (chunk.vector {distance} {vector}) AS _value
            FROM {source} AS source
            JOIN {chunks} AS chunk ON {chunk_of_source}
            WHERE NOT {filtered} AND (
                SELECT other.ordinal = chunk.ordinal
                FROM {chunks} AS other
                WHERE {other_of_chunk}
                ORDER BY (other.vector {distance} {vector}) + 0, other.ordinal
                LIMIT 1
            )
            ORDER BY {indexed} (
                SELECT CASE WHEN set_config('hnsw.ef_search', '{ef_search}', true) <> '' THEN {aimed} END
            ) {tie_break}
            LIMIT {handed_on}
        ) AS candidate
        ORDER BY _value DESC, {key}
        LIMIT {depth}
    ),
    computed AS MATERIALIZED (
        SELECT {source_key}, 1 - nearest.distance AS _value
        FROM {source} AS source
        CROSS JOIN LATERAL (
            SELECT (chunk.vector {distance} {vector}) + 0 AS distance
            FROM {chunks} AS chunk
            WHERE {chunk_of_source}
            ORDER BY distance
            LIMIT 1
        ) AS nearest
        WHERE (SELECT count(*) < {depth} FROM near) AND {filter}
        ORDER BY nearest.distance, {source_key}
        LIMIT {depth}
    ),
    dense AS MATERIALIZED (
        SELECT *, row_number() OVER (ORDER BY _value DESC, {key}) AS _rank
        FROM (
            SELECT * FROM near WHERE (SELECT count(*) >= {depth} FROM near)
            UNION ALL
            SELECT * FROM computed
        ) AS found
    )$sql$;
