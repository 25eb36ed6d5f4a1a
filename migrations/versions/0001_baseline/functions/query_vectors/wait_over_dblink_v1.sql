-- Asks a worker over a second connection, which stays open for the session's next query. Each call there waits for at
-- most a fifth of a second, because dblink ends a canceled SELECT only once it has an answer. If the signal to cancel
-- arrives twice, dblink leaves the connection busy, and the next call fails with an internal error.
CREATE FUNCTION semantic.wait_over_dblink_v1(encoder bigint, query text, seconds double precision) RETURNS real[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    place text;
    open boolean;
    connected boolean;
    failures integer := 0;
    part double precision;
    ends timestamptz := clock_timestamp() + make_interval(secs => least(seconds, 300));
    request bigint;
    answer real[];
BEGIN
    SELECT quote_ident(nspname), has_schema_privilege('public', pg_namespace.oid, 'USAGE') INTO place, open
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'dblink' AND EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'semantic');
    IF place IS NULL THEN
        RAISE EXCEPTION 'the query has no vector yet, and a SELECT cannot ask a worker for it without dblink'
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Run CALL semantic.embed_query(index, query) first, or set up dblink and the foreign server '
                '"semantic".';
    ELSIF open THEN
        RAISE EXCEPTION 'every role can use dblink, so every role could use the connection that requests query vectors'
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Restrict dblink to the owner of the schema "semantic": CREATE SCHEMA semantic_dblink; GRANT '
                'USAGE ON SCHEMA semantic_dblink TO the owner; ALTER EXTENSION dblink SET SCHEMA semantic_dblink.';
    END IF;
    EXECUTE format('SELECT ''semantic'' = ANY(%s.dblink_get_connections())', place) INTO connected;
    LOOP
        IF connected IS NOT TRUE THEN
            EXECUTE format('SELECT %s.dblink_connect(''semantic'', ''semantic'')', place);
            EXECUTE format('SELECT %s.dblink_exec(''semantic'', ''SET statement_timeout = 0'')', place);
            connected := true;
        END IF;
        part := least(greatest(extract(epoch FROM ends - clock_timestamp()), 0), 0.2);
        BEGIN
            EXECUTE format(
                'SELECT * FROM %s.dblink(''semantic'', $1) AS made (request bigint, vector real[])', place
            ) INTO request, answer
            USING format(
                'CALL semantic.embed_query_v1(%s, %L, %L, %L, %L, NULL)', encoder, query, seconds, part, request
            );
        EXCEPTION WHEN connection_exception OR connection_failure OR connection_does_not_exist
            OR admin_shutdown OR crash_shutdown OR internal_error THEN
            EXECUTE format('SELECT %s.dblink_disconnect(''semantic'')', place);
            connected := false;
            request := NULL;
            failures := failures + 1;
            IF failures = 3 THEN
                RAISE;
            END IF;
        END;
        EXIT WHEN connected AND (answer IS NOT NULL OR clock_timestamp() >= ends);
    END LOOP;
    RETURN semantic.require_query_vector_v1(answer, seconds);
END
$body$;
