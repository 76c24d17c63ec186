-- What users say about themselves; of users here and of those in the password file.
CREATE TABLE user_details (
    user_name       TEXT PRIMARY KEY,
    email           TEXT,
    email_me        INTEGER NOT NULL DEFAULT 0,
    checkin_aliases TEXT NOT NULL DEFAULT '[]'
);
