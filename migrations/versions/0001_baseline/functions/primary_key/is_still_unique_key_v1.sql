-- Whether a unique index guarantees that no two rows of a table have the same key. True if a column of the key was
-- renamed or dropped, which is a problem of its own.
CREATE FUNCTION semantic.is_still_unique_key_v1(known_source oid, spec jsonb) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT EXISTS (
        SELECT FROM pg_index
        WHERE indrelid = known_source AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL
          AND indnkeyatts = jsonb_array_length(spec -> 'key') AND indnkeyatts = (
              SELECT count(*)
              FROM generate_series(0, indnkeyatts - 1) AS place
              JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[place]
              WHERE spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', attname))
          )
    ) OR EXISTS (
        SELECT FROM jsonb_array_elements(spec -> 'key') AS part
        LEFT JOIN pg_attribute
            ON attrelid = known_source AND attname = part ->> 'name' AND attnum > 0 AND NOT attisdropped
        WHERE attname IS NULL
    )
$body$;
