-- A tsvector can hold a megabyte. For a text with more, only the beginning is used.
CREATE FUNCTION semantic.lexemes_v1(config regconfig, content text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    beginning text := content;
BEGIN
    LOOP
        BEGIN
            RETURN to_tsvector(config, beginning);
        EXCEPTION WHEN program_limit_exceeded THEN
            beginning := left(beginning, length(beginning) / 2);
        END;
    END LOOP;
END
$body$;
