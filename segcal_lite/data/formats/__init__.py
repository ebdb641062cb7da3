"""What SimpleITK does not tell of MetaImage, NRRD, PNG and TIFF, looked up in the files."""
