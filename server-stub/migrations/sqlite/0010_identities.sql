-- Users for whom an OpenID provider vouches; also users of the password file, hence no reference.
-- Without a subject the next person whom the provider calls by that name is the user.
CREATE TABLE identities (
    user_name TEXT PRIMARY KEY,
    issuer    TEXT,
    subject   TEXT,
    CHECK ((issuer IS NULL) = (subject IS NULL))
);
CREATE UNIQUE INDEX identities_subject ON identities (issuer, subject) WHERE subject IS NOT NULL;
