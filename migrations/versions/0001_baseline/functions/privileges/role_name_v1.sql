-- A role as GRANT and REVOKE name it. In an access control list, 0 is PUBLIC.
CREATE FUNCTION semantic.role_name_v1(role oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE role WHEN 0 THEN 'PUBLIC' ELSE CAST(CAST(role AS regrole) AS text) END;
