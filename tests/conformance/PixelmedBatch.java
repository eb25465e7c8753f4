import com.pixelmed.dicom.AttributeList;
import com.pixelmed.dicom.DicomInputStream;
import com.pixelmed.validate.DicomInstanceValidator;
import com.pixelmed.validate.DicomSRValidator;
import java.io.File;

/** PixelmedBatch (iod|sr) FILE...: one compiled stylesheet for many files. */
public class PixelmedBatch {
  public static void main(String[] arguments) throws Exception {
    boolean reports = arguments[0].equals("sr");
    DicomSRValidator reportValidator = reports ? new DicomSRValidator() : null;
    DicomInstanceValidator instanceValidator = reports ? null : new DicomInstanceValidator();
    if (reports) {
      reportValidator.setOptionCheckTemplateID(true);
      reportValidator.setOptionCheckAmbiguousTemplate(true);
      reportValidator.setOptionCheckContentItemOrder(true);
    }
    for (int i = 1; i < arguments.length; i++) {
      System.out.println("@@FILE " + arguments[i]);
      AttributeList list = new AttributeList();
      try (DicomInputStream in = new DicomInputStream(new File(arguments[i]))) {
        list.read(in);
      }
      System.out.println(reports ? reportValidator.validate(list) : instanceValidator.validate(list));
    }
  }
}
