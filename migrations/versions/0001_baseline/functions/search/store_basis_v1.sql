-- Stores the basis of a copy: its axes, concatenated in order. Waits for the transactions that write chunks, so that
-- those who write after it find the basis and write prefixes too. Returns false if there is one, or the copy was dropped.
CREATE FUNCTION semantic.store_basis_v1(generation integer, numbers real[], dimensions integer, sample integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    named regclass := (SELECT chunks FROM semantic.generation WHERE id = store_basis_v1.generation);
BEGIN
    IF named IS NULL THEN
        RETURN false;
    END IF;
    PERFORM semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', named);
    INSERT INTO semantic.basis (generation_id, axes, vectors)
    SELECT store_basis_v1.generation, array_agg(
        CAST(numbers[number * dimensions + 1:(number + 1) * dimensions] AS vector_schema.vector) ORDER BY number
    ), sample
    FROM generate_series(0, cardinality(numbers) / dimensions - 1) AS number
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$body$;
