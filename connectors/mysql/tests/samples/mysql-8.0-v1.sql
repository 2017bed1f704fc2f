SET GLOBAL log_bin_use_v1_row_events=1;
CREATE TABLE old (id INT PRIMARY KEY, a VARCHAR(10));
INSERT INTO old VALUES (1, 'x'); UPDATE old SET a = NULL; DELETE FROM old;
