SET GLOBAL log_bin_compress=ON; SET GLOBAL log_bin_compress_min_len=16;
CREATE TABLE wide (id INT PRIMARY KEY, body TEXT, padding_to_make_this_statement_longer_than_the_limit INT);
BEGIN; INSERT INTO wide SELECT seq, REPEAT(CONCAT('row ', seq, ' '), 100), 1 FROM seq_1_to_60; UPDATE wide SET body = REPEAT('new ', 50) WHERE id <= 10; DELETE FROM wide WHERE id > 50; COMMIT;
SET binlog_row_image=MINIMAL; UPDATE wide SET body = REPEAT('min ', 50) WHERE id <= 2;
SET GLOBAL log_bin_compress=OFF;
