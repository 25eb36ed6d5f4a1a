-- Raises an error unless every key column has the same number of values.
CREATE FUNCTION semantic.require_equal_lengths_v1(lengths integer[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF EXISTS (SELECT FROM unnest(lengths) AS length WHERE length IS DISTINCT FROM lengths[1]) THEN
        RAISE EXCEPTION 'the key columns have different numbers of values: %',
            array_to_string(lengths, ', ', 'none')
        USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Pass an array for each keys_ parameter, all of the same length: one value of each per row.';
    END IF;
END
$body$;
