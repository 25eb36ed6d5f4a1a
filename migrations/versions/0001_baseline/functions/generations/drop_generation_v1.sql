-- Drops a copy that has had this role for at least this many seconds: searches may still use a copy that was live
-- before.
CREATE FUNCTION semantic.drop_generation_v1(generation_id integer, expected text, seconds double precision)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known semantic.generation;
BEGIN
    PERFORM semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_in_lock_order_v1(index_id, id))
    FROM semantic.generation
    WHERE id = generation_id AND role = expected AND role <> 'live';
    SELECT * INTO known FROM semantic.generation WHERE id = generation_id FOR UPDATE;
    IF known.role IS DISTINCT FROM expected OR known.role = 'live'
        OR known.role_since > clock_timestamp() - make_interval(secs => seconds) THEN
        RAISE EXCEPTION 'generation % is no longer %, or became so only a moment ago', generation_id, expected
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Check pg-semantic status, then try again.';
    END IF;
    PERFORM semantic.delete_generation_v1(generation_id, true);
END
$body$;
