from memora.engine.files import open_file
