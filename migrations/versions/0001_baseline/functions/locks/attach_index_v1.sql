-- Makes the index of a partition a part of the index of its table. Searches that begin while this waits for others to
-- end wait as well, so it waits only for a moment.
CREATE FUNCTION semantic.attach_index_v1(whole regclass, part regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $body$
BEGIN
    EXECUTE format('ALTER INDEX %s ATTACH PARTITION %s', whole, part);
END
$body$;
